"""A text that is read token by token from a cache, and where it has to be read whole."""

from dataclasses import replace

import pytest
import torch

from harness.config import Config
from harness.data.tokens import get_tokenizer
from harness.engine.randomness import initialise
from harness.evals.models import LoadedModel
from harness.evals.next_token import NextToken, can_cache
from harness.evals.sampling import Sampling, complete_all
from harness.model import build
from tests.configs import load as load_config

ROTARY = {"rope": 10_000.0, "rope_frac": 0.5, "qk_norm": True, "n_kv_head": 1}
BENT = {"softcap": 5.0, "value_residual": True, "value_embedding": True, "exclusive": True}
WINDOW = {"window_frac": 0.25, "sink": True, "alibi": True, "gate": "headwise"}


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(["data=text", "data.path=x", "model.n_layer=3", "model.n_head=4",
                        "model.n_embd=32", "model.block_size=16", "model.qkv_bias=true"])  # fmt: skip


def loaded(config: Config, **slots: dict) -> LoadedModel:
    parts = {
        name: {**getattr(config.model, name), **arguments} for name, arguments in slots.items()
    }
    model = build(replace(config.model, **parts)).eval()
    initialise(model, 0)
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():  # nothing is zero, so that whatever is forgotten shows
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=stream))
    encoding = get_tokenizer(config.data.tokenizer)
    return LoadedModel(name="a model", model=model, encoding=encoding, weights=None)


@pytest.mark.parametrize("options", [{}, ROTARY, BENT, WINDOW], ids=str)
def test_a_cache_changes_nothing(config: Config, options: dict) -> None:
    model = loaded(config, attention=options)
    assert can_cache(model)
    texts = {0: list(b"A text"), 1: list(b"B"), 2: list(b"Some text")}
    cached, whole = NextToken(model, caches=True), NextToken(model, caches=False)
    for step in range(12):  # the context is 16 tokens: the longest text slides at the end
        found = cached.logits(texts)
        torch.testing.assert_close(found, whole.logits(texts), rtol=1e-4, atol=1e-4)
        assert (cached.cache is not None) == (step < 8)
        for ids, logits in zip(texts.values(), found, strict=True):
            ids.append(int(logits.argmax()))
        if step == 3:
            del texts[1]


@pytest.mark.parametrize("slots", [
    {"attention": {"end_of_text": 256}},
    {"attention": {"_target_": "interventions.canon.CanonAttention"}},
    {"embedding": {"_target_": "interventions.smear.SmearedEmbedding"}},
], ids=str)  # fmt: skip
def test_what_looks_at_other_tokens_is_read_whole(config: Config, slots: dict) -> None:
    model, ids = loaded(config, **slots), list(b"A te")
    assert not can_cache(model)
    for _ in range(4):
        ids.append(int(model.model(torch.tensor([ids]))[0, -1].argmax()))
    found = complete_all(model, ["A te"], Sampling(tokens=4, temperature=0))[0]
    assert found.text == bytes(ids[4:]).decode(errors="replace")
