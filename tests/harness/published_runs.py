"""The 36 training configurations of github.com/gpjt/ddp-base-model-from-scratch, ``runs/*``.

Read at its commit c894ed0 (August 2026). Values are what its model.json and train.json say, and
the number of steps that its ddp_train.py makes of them.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """What a run is called there, this project's words for it, and what it sets."""

    name: str
    arm: str = "baseline"
    extra: tuple[str, ...] = ()
    """Further words of the command."""
    sets: dict[str, object] = field(default_factory=dict)
    """Dotted key -> value, where it is not the baseline's."""
    n_steps: int = 33_165


BASELINE = {
    "model.vocab_size": 50257, "model.block_size": 1024, "model.n_embd": 768, "model.n_head": 12,
    "model.n_layer": 12, "model.dropout": 0.1, "model.qkv_bias": False, "model.tie_weights": False,
    "train.batch_size": 96, "train.tokens": 3_260_190_720, "optim.lr": 4e-4,
    "optim.weight_decay": 0.1, "optim.grad_clip": None, "precision.autocast": "fp16",
    "schedule._target_": "harness.schedule.constant", "model.mlp.n_experts": None,
}  # fmt: skip
CLIP, NO_DROPOUT = {"optim.grad_clip": 3.5}, {"model.dropout": 0.0}
DECAY, CEREBRAS = {"optim.weight_decay": 0.01}, {"optim.weight_decay": 0.33724}
COSINE = {
    "schedule._target_": "harness.schedule.warmup_cosine",
    "schedule.warmup_frac": 0.05,
    "schedule.final_frac": 0.1,
    "schedule.start_frac": 1e-5,
}
LR = {"optim.lr": 1.4e-3}
STACK = CLIP | NO_DROPOUT | DECAY | COSINE | LR
STACK_ARM = "gradient_clipping+no_dropout+scheduled_lr_exact+weight_decay_gpt2"
EXPERTS_ARM = "gradient_clipping+moe+no_dropout+scheduled_lr_exact+weight_decay_gpt2"
EXPERTS = STACK | {"model.mlp.n_experts": 6, "model.mlp.top_k": 2}
SMALL = STACK | {
    "model.block_size": 512, "model.n_embd": 512, "model.n_head": 8, "model.n_layer": 8,
    "train.batch_size": 64, "train.tokens": 1_538_662_400,
}  # fmt: skip
SMALL_EXTRA = ("model.block_size=512", "model.n_embd=512", "model.n_head=8", "model.n_layer=8",
               "train.batch_size=64", "train.tokens=1538662400")  # fmt: skip
LONG = STACK | {"model.block_size": 3072, "train.tokens": 3_291_648_000}
LONG_EXTRA = ("train.tokens=3291648000",)


def baseline(name: str) -> PublishedRun:
    return PublishedRun(name=name)


def stacked(name: str) -> PublishedRun:
    return PublishedRun(name=name, arm=STACK_ARM, sets=STACK)


RUNS = [
    *(baseline(f"8xa100m40-baseline{end}") for end in ("", *(f"-{n}" for n in range(2, 9)))),
    baseline("1xrtx3090-baseline"),
    *(
        PublishedRun(
            name=name, arm=f"batch_size_{size}", sets={"train.batch_size": size}, n_steps=n_steps
        )
        for name, size, n_steps in (
            ("8xa100m40", 104, 30_614),
            ("8xh100m80", 216, 14_740),
            ("8xa100m80", 224, 14_214),
            ("8xb200m160", 512, 6_219),
        )
    ),
    PublishedRun(
        name="original", arm="batch_size_small", sets={"train.batch_size": 6}, n_steps=530_630
    ),
    PublishedRun(name="8xa100m40-gradient-clipping", arm="gradient_clipping", sets=CLIP),
    PublishedRun(name="8xa100m40-qkv-bias", arm="qkv_bias", sets={"model.qkv_bias": True}),
    PublishedRun(name="8xa100m40-remove-dropout", arm="no_dropout", sets=NO_DROPOUT),
    PublishedRun(name="8xa100m40-update-learning-rate", arm="higher_lr", sets=LR),
    PublishedRun(
        name="8xa100m40-schedule-learning-rate", arm="scheduled_lr_exact", sets=COSINE | LR
    ),
    PublishedRun(name="8xa100m40-weight-decay-gpt2", arm="weight_decay_gpt2", sets=DECAY),
    PublishedRun(name="8xa100m40-weight-decay-cerebras", arm="weight_decay_cerebras", sets=CEREBRAS),
    PublishedRun(
        name="8xa100m40-weight-decay-cerebras-scheduling-learning-rate",
        arm="warmup_cosine_exact+weight_decay_cerebras",
        sets=CEREBRAS | COSINE,
    ),
    PublishedRun(
        name="8xa100m40-weight-decay-cerebras-scheduling-and-increasing-learning-rate",
        arm="scheduled_lr_exact+weight_decay_cerebras",
        sets=CEREBRAS | COSINE | LR,
    ),
    PublishedRun(
        name="8xa100m40-weight-tying", arm="weight_tying", sets={"model.tie_weights": True}
    ),
    PublishedRun(name="8xa100m80-no-amp", arm="no_amp", sets={"precision.autocast": "none"}),
    *map(stacked, ("8xa100m40-stacked-interventions-1", "1xrtx3090-stacked-interventions",
                   "1xrtx3090-stacked-interventions-poppy")),
    PublishedRun(
        name="8xa100m40-stacked-interventions-2",
        arm="gradient_clipping+no_dropout+qkv_bias+scheduled_lr_exact+weight_decay_gpt2",
        sets=STACK | {"model.qkv_bias": True},
    ),
    PublishedRun(
        name="8xa100m40-stacked-interventions-3",
        arm="gradient_clipping+no_dropout+scheduled_lr_exact",
        sets=CLIP | NO_DROPOUT | COSINE | LR,
    ),
    *(
        PublishedRun(name=name, arm=STACK_ARM, extra=SMALL_EXTRA, sets=SMALL, n_steps=46_957)
        for name in ("1xgtx1660-stacked-interventions",
                     "1xrtx3090-stacked-interventions-1xgtx1660-clone")
    ),
    PublishedRun(
        name="1xrtx3090-context-extension", arm=f"context_3072+{STACK_ARM}",
        extra=LONG_EXTRA, sets=LONG, n_steps=11_162,
    ),
    PublishedRun(name="1xrtx3090-moe-no-balancing", arm=EXPERTS_ARM, sets=EXPERTS),
    PublishedRun(name="1xrtx3090-moe-balancing-first-cut", arm=EXPERTS_ARM, sets=EXPERTS),
    PublishedRun(
        name="test", arm="gradient_clipping+scheduled_lr_exact", extra=("train.tokens=326010",),
        sets=CLIP | COSINE | LR | {"train.tokens": 326_010}, n_steps=4,
    ),
]  # fmt: skip

LOCAL = ("data=fineweb", "+data@eval.data.fineweb=fineweb", "eval.test_set=fineweb",
         "precision=fp32")  # fmt: skip
LOCAL_ROWS = {
    "local FineWeb": ("batch_size_small", (), "fineweb"),
    "local FineWeb-Edu": ("batch_size_small+data_edu", (), "fineweb_edu"),
    "local FineWeb-Edu extended": (
        "batch_size_small+data_edu",
        ("train.init_from=runs/local/batch_size_small+data_edu",),
        "fineweb_edu",
    ),
}
"""The rows trained on one card of his own, all tested on FineWeb: 3.944, 4.167 and 4.135."""
