"""What a config and its corpus say together before anything is compiled."""

import pytest
from helpers.runs import shrunk

from rsrc_jax.build.setup import make_setup, prepare


def test_a_budget_longer_than_half_of_the_sources_is_named(tmp_path):
  lines = [
    f"The {x} man was sent to {'the ' * (y % 3)}{y} house."
    for x in "abcdefghij"
    for y in range(30)
  ]
  (tmp_path / "a.txt").write_text("\n\n".join(lines))
  config = shrunk(budget=8)
  config.data = {
    "source": "text", "path": str(tmp_path / "a.txt"), "vocab_size": 310,
    "max_tokens": 24, "min_tokens": 2, "heldout": 0.2, "symbols": 30,
  }  # fmt: skip
  setup = make_setup(config, tmp_path / "cache")
  lengths = setup.corpus.train.mask.sum(1)
  setup.config.budget = int(lengths.max())
  few, long = make_setup(setup.config, tmp_path / "cache").corpus.notes
  assert "fewer than 1,000" in few and "config.budget=" in long
  assert f"their median has {sorted(lengths)[len(lengths) // 2]} tokens" in long
  # The model has a row for each symbol, and codes may hold them.
  assert setup.corpus.vocab.size == 340
  assert setup.roles["C"].support[310:].all()
  assert not setup.roles["D"].support[310:].any()
  config.model.vocab_size = 320
  with pytest.raises(
    ValueError, match=r"vocab_size=320, less than the 340 ids"
  ):
    make_setup(config, tmp_path / "cache")


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"pretrain.patience": 1, "eval.every": 7},
      r"patience=1 must be 0 where no look .* config\.eval\.every=7 steps",
    ),
    ({"pretrain.patience": -1}, r"config\.pretrain\.patience=-1 must be"),
  ],
)
def test_a_patience_that_never_looks(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    prepare(shrunk(**changes))
  assert "\n" not in str(error.value)


def test_symbols_of_a_pretrained_vocabulary_are_refused_before_it_is_read():
  from rsrc_jax.runtime import configs

  config = configs.load_config("smollm2", **{"data.symbols": 8})
  with pytest.raises(ValueError, match=r"config\.data\.symbols=8 must be 0 wi"):
    prepare(config)


def test_symbols_count_where_memory_is_short(monkeypatch):
  """2**23 rows of 64 numbers of 4 bytes, five times: 10.7 GB."""
  from rsrc_jax.runtime import configs, memory

  monkeypatch.setattr(memory, "free", lambda mesh: 8e9)
  config = configs.load_config("cdv_text", **{"data.symbols": 2**23})
  with pytest.raises(ValueError, match=r"config\.data\.symbols=8388608: 5 tim"):
    prepare(config)
