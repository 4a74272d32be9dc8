"""Every arm leaves for transformers with the logits that it has here."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from harness.cell.sources import keep_sources
from harness.config import Config
from harness.config.frozen import to_yaml
from harness.engine.checkpoint import save_weights
from harness.engine.randomness import initialise
from harness.evals.export import export
from harness.evals.models import load
from harness.hub.gpt2 import is_gpt2
from harness.model import build
from harness.records.files import CONF_DIR
from tests.configs import load as load_config
from tests.harness.hub_server import HubServer

ARMS = sorted(
    path.stem
    for path in (CONF_DIR / "intervention").glob("*.yaml")
    if "\nmodel:" in path.read_text()
)
"""Those that change the model; all others have the baseline's."""


def saved(config: Config, folder: Path) -> Path:
    """A cell's folder with random weights, every parameter moved off its initial value."""
    torch.manual_seed(0)
    model = build(config.model)
    initialise(model, 0)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    keep_sources(config, folder)
    save_weights(folder, config.n_steps, model)
    return folder


def arms_by_model(tiny: list[str]) -> dict[str, Config]:
    """One arm for each different model of the catalogue, in the demo's shape."""
    found: dict[str, Config] = {}
    small = [override for override in tiny if not override.startswith("model.")]
    for overlay in [[], *([f"+intervention={arm}"] for arm in ARMS)]:
        config = load_config([*small, *overlay])
        found.setdefault(json.dumps(str(config.model), sort_keys=True), config)
    return {config.arm: config for config in found.values()}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.proof
@pytest.mark.slow
def test_logits_are_equal_for_every_model_of_the_catalogue(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    ids, kinds = torch.randint(0, 257, (2, 16)), set()
    for arm, config in arms_by_model([*tiny, "train.tokens=100_000"]).items():
        loaded = load(str(saved(config, tmp_path / "runs" / "s" / arm / "c")), "cpu")
        export(loaded, tmp_path / "out" / arm)
        standard = is_gpt2(config.model)
        kinds.add(standard)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "out" / arm, trust_remote_code=not standard
        ).eval()
        with torch.no_grad():
            ours, found = loaded.model(ids), theirs(ids).logits
        # a tied head at PyTorch's initial scale has logits of +-40, whose rounding is larger
        assert (ours - found).abs().max() <= 1e-5 * max(1.0, float(ours.std())), arm
    assert kinds == {True, False}


def test_a_standard_arm_is_transformers_own_gpt2_and_comes_back(
    tiny: list[str], tmp_path: Path
) -> None:
    config = load_config([*tiny, "+intervention=weight_tying"])
    loaded = load(str(saved(config, tmp_path / "runs" / "s" / "weight_tying" / "c")), "cpu")
    export(loaded, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    assert theirs.lm_head.weight is theirs.transformer.wte.weight
    back = load(f"hf:{tmp_path / 'out'}", "cpu")
    ids = torch.randint(0, 257, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(back.model(ids), loaded.model(ids), rtol=0, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert loaded.weights.sha256 in card
    assert "Limits" in card


def test_the_byte_level_tokenizer_travels(tiny: list[str], tmp_path: Path) -> None:
    loaded = load(str(saved(load_config(tiny), tmp_path / "runs" / "s" / "baseline" / "c")), "cpu")
    export(loaded, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "Zürich: don't  \n\t⚙"
    assert tokenizer(text)["input_ids"] == loaded.encoding.encode_ordinary(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == 256


def test_a_model_is_pushed_to_the_hub_and_loaded_from_there(
    command, started, tiny: list[str], tmp_path: Path
) -> None:
    cell = saved(load_config(tiny), tmp_path / "runs" / "s" / "baseline" / "c")
    with HubServer({}, home=tmp_path / "hub") as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_secret"}
        done = started(
            "harness.export", str(cell), "--to", "out", "--push", "someone/tiny", **online
        )
        assert done.returncode == 0, done.stderr
        model = "hf:someone/tiny"
        sampled = command("harness.sample", model, "--tokens", "2", **online)
        assert sampled.returncode == 0, sampled.stderr
        assert hub.tokens_seen == {"Bearer hf_secret"}
    again = command("harness.sample", model, "--tokens", "2", **online, HF_HUB_OFFLINE="1")
    assert again.stdout == sampled.stdout  # from the cache
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"hf_secret" in path.read_bytes()]
