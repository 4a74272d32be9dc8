"""Refuse what cannot be trained, before data is read or a device is touched."""

from __future__ import annotations

import re
from dataclasses import asdict

from harness.config import VOCAB_SIZE, Config, ConfigError, ModelConfig

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def validate(config: Config) -> None:
    """Refuse impossible values before data is read or a device is touched.

    Raises
    ------
    ConfigError
        Naming the key, its value and what is allowed.
    """
    _check_positive(config)
    model, train = config.model, config.train
    _check_heads(model)
    betas = config.optim.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optim.betas={betas}: two numbers in [0, 1), e.g. [0.9,0.999]")
    if not 0 < config.study.alpha < 0.5:
        raise ConfigError(f"study.alpha={config.study.alpha}: must be in (0, 0.5), e.g. 0.05")
    if not 0 <= model.dropout < 1:
        raise ConfigError(f"model.dropout={model.dropout}: must be in [0, 1)")
    if model.vocab_size < (needed := VOCAB_SIZE[config.data.tokenizer.name]):
        raise ConfigError(
            f"model.vocab_size={model.vocab_size} is under the {needed} tokens of "
            f"data.tokenizer={config.data.tokenizer.name}: leave it unset"
        )
    if config.n_steps < 1:
        raise ConfigError(
            f"train.tokens={train.tokens} pays for no step of {config.tokens_per_step} tokens "
            f"(train.batch_size={train.batch_size} x model.block_size={model.block_size}): raise it"
        )
    if config.budget.usd is not None and config.hardware.usd_per_hour is None:
        raise ConfigError("budget.usd needs hardware.usd_per_hour: the price of one device")
    if train.batch_size % config.hardware.n_devices:
        raise ConfigError(
            f"train.batch_size={train.batch_size} cannot be shared out over "
            f"hardware.n_devices={config.hardware.n_devices}: choose a divisor"
        )
    if any(seed < 0 for seed in asdict(config.seeds).values()):
        raise ConfigError(f"seeds={asdict(config.seeds)}: must be 0 or more")
    if not SAFE_NAME.fullmatch(config.study_name):
        raise ConfigError(
            f"study_name={config.study_name!r}: at most 200 letters, digits, '.', '_' and '-'"
        )


def _check_positive(config: Config) -> None:
    model, train = config.model, config.train
    positive = {
        "model.n_layer": model.n_layer,
        "model.n_head": model.n_head,
        "model.n_embd": model.n_embd,
        "model.block_size": model.block_size,
        "train.batch_size": train.batch_size,
        "train.max_skipped_steps": train.max_skipped_steps,
        "eval.test_sequences": config.eval.test_sequences,
        "eval.val_sequences": config.eval.val_sequences,
        "log.n_points": config.log.n_points,
        "sample.tokens": config.sample.tokens,
        "sample.top_k": config.sample.top_k,
        "checkpoint.keep": config.checkpoint.keep,
        "hardware.threads": config.hardware.threads,
        "hardware.n_devices": config.hardware.n_devices,
        "hardware.micro_batch": config.hardware.micro_batch,
        "hardware.slots": config.hardware.slots,
        "study.seeds": config.study.seeds,
        "study.baseline_seeds": config.study.baseline_seeds,
        "study.rope": config.study.rope,
        "optim.eps": config.optim.eps,
        "optim.grad_clip": config.optim.grad_clip,
        "optim.lr": config.optim.lr,
        "sample.temperature": config.sample.temperature,
    }
    for key, value in positive.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{key}={value}: must be above 0")
    counts = {
        "eval.n_val": config.eval.n_val,
        "sample.n_times": config.sample.n_times,
        "checkpoint.every_steps": config.checkpoint.every_steps,
        "checkpoint.n_weights": config.checkpoint.n_weights,
        "optim.weight_decay": config.optim.weight_decay,
    }
    for key, value in counts.items():
        if not value >= 0:
            raise ConfigError(f"{key}={value}: must be 0 or more")


def _check_heads(model: ModelConfig) -> None:
    if model.n_embd % model.n_head:
        divisors = [n for n in range(1, model.n_embd + 1) if model.n_embd % n == 0]
        near = sorted(divisors, key=lambda n: abs(n - model.n_head))[:3]
        raise ConfigError(
            f"model.n_embd={model.n_embd} is not divisible by model.n_head={model.n_head}: "
            f"try n_head={', '.join(map(str, sorted(near)))}"
        )
