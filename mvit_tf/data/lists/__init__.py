"""Which videos there are and what they show: folders, lists, labels, splits, and what is wrong."""
