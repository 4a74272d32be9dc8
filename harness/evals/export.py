"""Write a trained model as a folder that ``AutoModelForCausalLM.from_pretrained`` loads.

Where the architecture is GPT-2's, it is transformers' own GPT-2 in plain files. Where parts were
swapped, `harness.evals.modelling.py.txt` goes along with the source of every module that the model
is made of, and is loaded with ``trust_remote_code=True``.
"""

from __future__ import annotations

import ast
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import tiktoken
from torch import Tensor

from harness.cell.sources import origin
from harness.config import ConfigError
from harness.data.tokens import END_OF_TEXT
from harness.engine.checkpoint import save_tensors
from harness.evals.card import model_card
from harness.evals.models import LoadedModel
from harness.hub.gpt2 import hub_config, is_gpt2, to_gpt2
from harness.hub.tokenizer import byte_letters
from harness.hub.weights import HUB_WEIGHTS
from harness.records.files import plain, write_atomic
from harness.records.sources import kept_files

MODELLING = "modeling_llm_interventions.py"
_TEMPLATE = Path(__file__).with_name("modelling.py.txt")


def export(loaded: LoadedModel, folder: Path) -> None:
    """Write weights, config, generation settings, tokenizer and model card into a new folder."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder with --to")
    folder.mkdir(parents=True, exist_ok=True)
    standard = is_gpt2(loaded.model.config)
    if standard:
        _write_gpt2(loaded, folder)
    else:
        _write_bundle(loaded, folder)
    write_tokenizer(loaded.encoding, loaded.block_size, folder)
    end = loaded.encoding.eot_token
    settings = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "do_sample": True}
    _write_json(folder / "generation_config.json", settings)
    write_atomic(folder / "README.md", model_card(loaded, standard=standard))


def _write_gpt2(loaded: LoadedModel, folder: Path) -> None:
    config = loaded.model.config
    named = {n: p.detach().cpu() for n, p in loaded.model.named_parameters()}
    end = loaded.encoding.eot_token
    head = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32"}
    ends = {"bos_token_id": end, "eos_token_id": end}
    _write_json(folder / "config.json", head | hub_config(config) | ends)
    save_tensors(to_gpt2(named, config), folder / HUB_WEIGHTS)


def _write_bundle(loaded: LoadedModel, folder: Path) -> None:
    classes = {"AutoConfig": "InterventionsConfig", "AutoModelForCausalLM": "InterventionsModel"}
    module = MODELLING.removesuffix(".py")
    progress = getattr(loaded.model, "progress", None)
    _write_json(
        folder / "config.json",
        {
            "architectures": [classes["AutoModelForCausalLM"]],
            "model_type": "llm_interventions",
            "auto_map": {auto: f"{module}.{name}" for auto, name in classes.items()},
            "dtype": "float32",
            "model": plain(loaded.model.config),
            "progress": float(progress) if isinstance(progress, Tensor) else 1.0,
            "vocab_size": loaded.model.config.vocab_size,
            "max_position_embeddings": loaded.block_size,
            "hidden_size": loaded.model.config.n_embd,
            "num_hidden_layers": loaded.model.config.n_layer,
            "num_attention_heads": loaded.model.config.n_head,
            "tie_word_embeddings": False,
            "bos_token_id": loaded.encoding.eot_token,
            "eos_token_id": loaded.encoding.eot_token,
        },
    )
    template = _TEMPLATE.read_text(encoding="utf-8")
    sources = json.dumps(bundled_sources(loaded))
    write_atomic(folder / MODELLING, template.replace('"SOURCES"', f"json.loads({sources!r})"))
    both = loaded.model.named_parameters(remove_duplicate=False)
    named = {f"gpt.{n}": p.detach().cpu().clone() for n, p in both}
    save_tensors(named, folder / HUB_WEIGHTS)


def bundled_sources(loaded: LoadedModel) -> dict[str, str]:
    """Return module -> source of all that the model's classes are made of."""
    kept = kept_files(loaded.weights.cell) if loaded.weights.cell else {}
    slots = [slot for slot in asdict(loaded.model.config).values() if isinstance(slot, dict)]
    todo = ["harness.model", *(slot["_target_"].rpartition(".")[0] for slot in slots)]
    found: dict[str, str] = {}
    while todo:
        name = todo.pop()
        if name in found or not (name.split(".")[0] == "harness" or name in kept):
            continue
        file = kept.get(name) or origin(name)
        if file is None:
            continue
        found[name] = file.read_text(encoding="utf-8")
        package = name.rpartition(".")[0]
        todo += [*_imported(found[name]), *([package] if package else [])]
    return dict(sorted(found.items()))


def _imported(source: str) -> list[str]:
    """Return the modules that a module's source may import, wherever it does."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_atomic(file, json.dumps(content, indent=2) + "\n")


def write_tokenizer(encoding: tiktoken.Encoding, block_size: int, folder: Path) -> None:
    """Write the tokenizer as ``tokenizer.json``: a byte-level BPE, without merges for bytes."""
    letters = byte_letters()

    def spelt(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    ranks = encoding._mergeable_ranks
    merges = [
        [spelt(part) for part in _parts(ranks, token, rank)]
        for token, rank in ranks.items()
        if len(token) > 1
    ]
    added = {"id": encoding.eot_token, "content": END_OF_TEXT, "special": True}
    plain_flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    splits = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [added | plain_flags],
        "pre_tokenizer": splits | {"use_regex": bool(merges)},
        "post_processor": None,
        "decoder": splits | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {spelt(token): rank for token, rank in ranks.items()}
            | {END_OF_TEXT: encoding.eot_token},
            "merges": merges,
        },
    }  # fmt: skip
    write_atomic(folder / "tokenizer.json", json.dumps(content, ensure_ascii=False))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": block_size,
            "clean_up_tokenization_spaces": False,
            **dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT),
        },
    )


def _parts(ranks: dict[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """Return the two tokens that were merged into this one: merge its bytes as far as before it."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(parts)]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[i] >= limit:
            raise ConfigError(f"the tokenizer's token {token!r} is no merge of two others")
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts
