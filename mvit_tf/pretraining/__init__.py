"""Learning from videos without labels: MaskFeat (Wei et al., arXiv 2112.09133)."""
