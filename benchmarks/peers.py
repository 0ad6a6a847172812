"""Other implementations of MViT, in PyTorch, built from a config of ours.

The tests compare with them too. Imports of PyTorch stay inside the functions.
"""


def import_torchvision():
    """Imports torchvision, also where its compiled operators do not fit the torch installed.

    Such a build fails at import for want of `torchvision::nms`, which no model here uses.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        global _operators  # a library lives as long as its object
        _operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def torchvision_model(config):
    """`torchvision.models.video.MViT`, in eval mode."""
    import_torchvision()
    from torchvision.models.video import mvit

    blocks = [
        mvit.MSBlockConfig(
            num_heads=spec.num_heads,
            input_channels=spec.input_dim,
            output_channels=spec.output_dim,
            kernel_q=list(spec.query_kernel),
            kernel_kv=list(spec.key_kernel),
            stride_q=list(spec.query_stride),
            stride_kv=list(spec.key_stride),
        )
        for spec in config.blocks()
    ]
    return mvit.MViT(
        spatial_size=config.input_size[1:],
        temporal_size=config.input_size[0],
        block_setting=blocks,
        residual_pool=config.residual_pooling != "none",
        residual_with_cls_embed=config.residual_pooling == "all",
        rel_pos_embed=config.relative_positions == "space_time",
        proj_after_attn=config.expand_in == "attention",
        num_classes=config.num_classes,
        dropout=config.head_dropout_rate,
        stochastic_depth_prob=config.drop_path_rate,
        patch_embed_kernel=config.patch_kernel,
        patch_embed_stride=config.patch_stride,
        patch_embed_padding=config.patch_padding,
    ).eval()


def pytorchvideo_model(config):
    """PyTorchVideo's model of release 0.1.5, in eval mode.

    That release gave the norms after pooling PyTorch's default epsilon of 1e-5; its later
    sources, SlowFast and torchvision have 1e-6, which is set here.
    """
    import torch

    import_torchvision()
    from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers

    first = slice(1, None) if config.image else slice(None)
    model = create_multiscale_vision_transformers(
        spatial_size=config.input_size[1:],
        temporal_size=config.input_size[0],
        cls_embed_on=config.class_token,
        sep_pos_embed=config.positions == "separate",
        depth=sum(config.depths),
        patch_embed_dim=config.embed_dim,
        conv_patch_embed_kernel=config.patch_kernel[first],
        conv_patch_embed_stride=config.patch_stride[first],
        conv_patch_embed_padding=config.patch_padding[first],
        use_2d_patch=config.image,
        num_heads=config.num_heads,
        qkv_bias=config.qkv_bias,
        pooling_mode=config.pool_mode,
        embed_dim_mul=[[start, 2.0] for start in stage_starts(config)],
        atten_head_mul=[[start, 2.0] for start in stage_starts(config)],
        pool_q_stride_size=[[start, *config.query_stride] for start in stage_starts(config)],
        pool_kv_stride_adaptive=list(config.key_stride),
        pool_kvq_kernel=config.pool_kernel and list(config.pool_kernel),
        head_num_classes=config.num_classes,
        head_dropout_rate=config.head_dropout_rate,
        droppath_rate_block=config.drop_path_rate,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return model.eval()


def timm_model(config):
    """`timm.models.mvitv2.MultiScaleVit`, in eval mode; for image configs."""
    import_torchvision()
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    stages = len(config.depths)
    cfg = MultiScaleVitCfg(
        depths=config.depths,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        expand_attn=config.expand_in == "attention",
        qkv_bias=config.qkv_bias,
        use_cls_token=config.class_token,
        use_abs_pos=config.positions == "joint",
        residual_pooling=config.residual_pooling != "none",
        mode=config.pool_mode,
        kernel_qkv=config.pool_kernel[1:],
        stride_q=((1, 1), *(config.query_stride[1:],) * (stages - 1)),
        stride_kv_adaptive=config.key_stride[1:],
        patch_kernel=config.patch_kernel[1:],
        patch_stride=config.patch_stride[1:],
        patch_padding=config.patch_padding[1:],
        rel_pos_type="spatial" if config.relative_positions == "space" else "",
    )
    model = MultiScaleVit(
        cfg,
        img_size=config.input_size[1:],
        num_classes=config.num_classes,
        drop_path_rate=config.drop_path_rate,
        drop_rate=config.head_dropout_rate,
    )
    return model.eval()


def stage_starts(config):
    """Indices of the first blocks of all stages but the first."""
    return [sum(config.depths[:stage]) for stage in range(1, len(config.depths))]
