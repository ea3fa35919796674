"""The survival map: made-up runs in, marks, files and a figure out."""

import csv
import json
import math

import numpy as np
import pytest
from helpers.made_up import fake_rsrc, three, three_seeds
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rsrc_jax.accounting import __main__ as metrics
from rsrc_jax.metrics import rsrc
from rsrc_jax.report import arms as run_arms
from rsrc_jax.report import (
  survival_layout,
  survival_map,
  survival_plot,
  survival_points,
)


def by_name(points: list[dict], mark: str = "run") -> dict[str, dict]:
  return {p["name"]: p for p in points if p["mark"] == mark}


def marks_of(figure: Figure) -> list:
  """The lines that are marks."""
  return [x for x in figure.axes[0].lines if x.get_marker() != "None"]


@pytest.fixture(scope="module")
def points() -> list[dict]:
  return survival_map.points([{"seed": 0, "rsrc": fake_rsrc()}])


@pytest.fixture(scope="module")
def folder(points, tmp_path_factory):
  folder = tmp_path_factory.mktemp("map")
  survival_map.write(points, folder)
  return folder


def test_front_keeps_what_nothing_beats():
  inf = math.inf
  # (2, 2) beats (1, 2) and (2, 1); (1, 3) and (3, 1) lead in one each; equals
  # do not beat each other; what is unknown takes no part.
  pairs = [(2, 2), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (None, 9), (0, 0)]
  assert survival_points.front(pairs) == [
    True, False, False, True, True, True, False, False
  ]  # fmt: skip
  # Of two that needed no training, the better one in use.
  assert survival_points.front([(5, inf), (4, inf), (9, 1)]) == [
    True,
    False,
    True,
  ]
  assert survival_points.front([]) == []


def test_front_of_random_points_agrees_with_its_definition():
  rng = np.random.default_rng(0)
  pairs = [tuple(map(int, p)) for p in rng.integers(0, 6, (40, 2))]
  front = [
    p for p, f in zip(pairs, survival_points.front(pairs), strict=True) if f
  ]
  lost = set(pairs) - set(front)
  assert front and lost
  beats = lambda a, b: a != b and a[0] >= b[0] and a[1] >= b[1]
  assert all(any(beats(f, p) for f in front) for p in lost)
  assert not any(beats(p, f) for p in pairs for f in front)


@pytest.mark.parametrize("n", [1.0, 2048.0, 1e6, 1e12])
def test_other_volumes_agree_with_the_metric_and_are_harmonic(points, n):
  for name in ("code", "lead"):
    before = by_name(points)[name]
    point = survival_points.at(before, n)
    k, training, use = (before[x] for x in ("k", "training_joules", "joules"))
    assert point["rsrc_t"] == pytest.approx(rsrc.rsrc_t(n, k, 0.0, training))
    expected = rsrc.rsrc_life(n, k, training, use)
    assert point["rsrc_life"] == pytest.approx(expected, rel=1e-9)
    # k_0 = 0: the identity that the lines of equal life are drawn by.
    harmonic = 1 / (1 / point["rsrc_t"] + 1 / point["rsrc_i"])
    assert point["rsrc_life"] == pytest.approx(harmonic, rel=1e-9)
    ends = [point[f"rsrc_life{end}"] for end in ("_p5", "", "_p95")]
    assert ends == sorted(ends)
    assert point["rsrc_i"] == before["rsrc_i"]
    assert point["log10_eta_t"] - before["log10_eta_t"] == pytest.approx(
      math.log10(n / 2048)
    )
    assert point["net_bits"] == pytest.approx(rsrc.net_bits(n, k, 3287040))
  zlib = survival_points.at(by_name(points)["zlib"], n)
  assert zlib["rsrc_t"] == math.inf
  assert zlib["rsrc_life"] == pytest.approx(zlib["rsrc_i"])
  assert survival_points.at(by_name(points)["identity"], n)["rsrc_life"] == 0


def test_unknown_training_does_not_become_free():
  block = fake_rsrc()
  block["arms"]["code"]["training_joules"] = None
  code = by_name(survival_map.points([{"rsrc": block}], samples=9.0))["code"]
  assert code["rsrc_life"] is None
  assert survival_points.life(9.0, 40.0, None, 1e-3) is None
  assert survival_points.life(9.0, -3.0, 1.0, 1e-3) == 0.0  # s is sent raw
  assert (
    survival_points.life(9.0, 3.0, 0.0, 0.0) is None
  )  # 0 J was not measured


@pytest.mark.parametrize(
  "frame",
  [
    survival_layout.Frame((3, 9), (0, 5)),
    survival_layout.Frame((0, 3), (2, 9)),
    survival_layout.Frame((-4, 12), (-6, 10)),
    survival_layout.Frame((2, 3), (2, 3)),
  ],
)
def test_lines_of_equal_life_lie_in_the_frame(frame):
  levels = survival_layout.levels(frame)
  assert 1 <= len(levels) <= 8
  for level in levels:
    path = 10.0 ** np.asarray(survival_layout.iso_life(level, frame))
    np.testing.assert_allclose((1 / path).sum(1), 1 / level, rtol=1e-9)
    for axis, (low, high) in enumerate(frame):
      assert np.log10(path[:, axis]).min() >= low - 1e-9
      assert np.log10(path[:, axis]).max() <= high + 1e-9
    # It ends where it leaves the frame, not before.
    ends = np.log10(path[[0, -1]])
    on_edge = np.isclose(ends[..., None], np.asarray(frame)).any(-1)
    assert on_edge.any(1).all()


def test_what_has_no_logarithm_lies_in_a_gutter(points):
  places = {n: (p["place_i"], p["place_t"]) for n, p in by_name(points).items()}
  assert places["code"] == ("inside", "inside")
  assert places["zlib"] == ("inside", "inf")
  assert places["identity"] == places["untrained"] == ("0", "0")
  block = fake_rsrc()
  block["arms"]["code"] |= {"rsrc_t": three(-4.0), "rsrc_i": three(1e3)}
  block["arms"]["lead"]["rsrc_i"] = None
  hurt = survival_map.points([{"rsrc": block}])
  assert by_name(hurt)["code"]["place_t"] == "0"  # training has hurt
  assert by_name(hurt)["lead"]["place_i"] == "unknown"
  figure = survival_plot.figure(hurt)
  assert len(marks_of(figure)) == len(hurt) - 1
  assert "energy unknown: lead k" in figure.texts[-1].get_text()


def test_every_arm_is_drawn_once_and_named_apart(points):
  for found in (points, survival_map.points(three_seeds())):
    figure = survival_plot.figure(found)
    axes = figure.axes[0]
    assert len(marks_of(figure)) == len(found)
    spots = [(float(x.get_xdata()[0]), float(x.get_ydata()[0]))
             for x in marks_of(figure)]  # fmt: skip
    assert all(0 < x < survival_layout.WIDTH for x, _ in spots)
    assert all(0 < y < survival_layout.HEIGHT for _, y in spots)
    renderer = FigureCanvasAgg(figure).get_renderer()
    names = [t for t in axes.texts if not t.get_text().startswith("life")]
    boxes = [t.get_window_extent(renderer).shrunk(0.96, 0.6) for t in names]
    assert len(names) >= len({p["name"] for p in found})
    for i, box in enumerate(boxes):
      assert not any(box.overlaps(other) for other in boxes[:i])
      assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1


def test_hollow_unless_a_counter_has_counted():
  block = fake_rsrc()
  block["arms"]["code"]["source"] = "nvml_counter+rapl"
  block["arms"]["lead"]["source"] = "rapl+modelled"
  block["arms"]["sft"]["source"] = "nvml_power_sampled"
  points = survival_map.points([{"rsrc": block}])
  filled = [p["name"] for p in points if survival_plot.measured(p)]
  assert filled == ["code"]
  # Marks are drawn with the code last.
  faces = [line.get_markerfacecolor() for line in
           marks_of(survival_plot.figure(points))]  # fmt: skip
  assert faces[-1] != "white" and set(faces[:-1]) == {"white"}
  # zlib says nothing: it ran beside arms that disagree.
  assert by_name(points)["zlib"]["source"] == "unknown"


def test_every_plotted_number_is_in_the_csv(points, folder):
  with (folder / "survival_map.csv").open() as file:
    rows = list(csv.DictReader(file))
  table = {r["name"]: r for r in rows if r["name"]}
  assert list(table) == list(fake_rsrc()["arms"])
  known = [set(), set()]
  for i, axis in enumerate(("rsrc_i", "rsrc_t")):
    for row in table.values():
      for end in ("", "_p5", "_p95"):
        value = float(row[axis + end])
        if 0 < value < math.inf:
          known[i].add(round(math.log10(value), 6))
  paper, _ = survival_layout.lay_out(points)
  plotted = 0
  figure = survival_plot.figure(points)
  for line in marks_of(figure) + [x for x in figure.axes[0].lines
                                  if x.get_linewidth() == 1.3]:  # fmt: skip
    for i, values in enumerate((line.get_xdata(), line.get_ydata())):
      (low, high), (start, end) = paper.frame[i], (paper.x, paper.y)[i]
      for value in values:
        if start < value < end:  # the rest is in a gutter
          decade = low + (value - start) / (end - start) * (high - low)
          assert round(decade, 6) in known[i]
          plotted += 1
  # Bars of 5 arms have 4 ends and 4 repeated middles, marks 2 numbers; 4
  # compressors have them across only: 3, their heights are a gutter's.
  assert plotted == 5 * (4 + 4 + 2) + 4 * 3
  levels = [float(r["rsrc_life"]) for r in rows if r["mark"] == "iso-life"]
  assert levels == survival_layout.levels(paper.frame)
  drawn = json.loads((folder / "survival_map.json").read_text())
  assert drawn["iso_life_bit_per_joule"] == levels
  assert len(drawn["points"]) == len(table)
  assert table["code"]["m_star_joules"] == "inf"
  assert table["code"]["n_star_zlib"] == "inf"
  assert float(table["code"]["m_star_flops"]) == 9.4
  assert float(table["code"]["bits_saved_frozen"]) == pytest.approx(-3.98)
  assert float(table["code"]["break_even_samples"]) == pytest.approx(81971.07)


def test_twice_the_same_bytes(points, folder, tmp_path):
  survival_map.write(points, tmp_path)
  files = sorted(path.name for path in folder.iterdir())
  assert files == [f"survival_map.{x}" for x in ("csv", "json", "png", "svg")]
  for name in files:
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_seeds_are_averaged_in_decades_and_zeros_counted():
  points = survival_map.points(three_seeds())
  mean, seeds = by_name(points, "mean"), [p for p in points if p["seed"] == 1]
  assert len(points) == 4 * len(mean) and len(seeds) == len(mean)
  # 1e3 * 24.3/0.9 times the geometric mean of 1, 1.3 and 0.8.
  factor = (1.3 * 0.8) ** (1 / 3)
  assert mean["english_rl"]["rsrc_i"] == pytest.approx(27000 * factor)
  assert mean["english_rl"]["rsrc_i_p95"] == pytest.approx(51300 * factor)
  assert mean["english_rl"]["k"] == pytest.approx(24.3 * 3.1 / 3)
  assert mean["english_rl"]["seeds_at_zero"] == 0
  # Seed 2 of SFT has no logarithm: two are averaged, one is counted.
  assert mean["sft"]["seeds_at_zero"] == 1 and mean["sft"]["seeds"] == 3
  assert mean["sft"]["rsrc_i"] == pytest.approx(16.8 / 0.9e-3 * 1.3**0.5)
  assert mean["zlib"]["rsrc_t"] == math.inf
  assert mean["identity"]["rsrc_i"] == 0.0
  # 3287040 / (k of a seed): the middle one, and ∞ is the largest.
  assert mean["code"]["break_even_samples"] == pytest.approx(3287040 / 40.1)
  names = [t.get_text() for t in survival_plot.figure(points).axes[0].texts]
  assert "SFT (1 of 3 seeds at 0)" in names and "SFT, seed 2" in names
  # Seeds are on no front of their own.
  assert {p["mark"] for p in points if p["on_front"]} == {"mean"}


def test_one_front_of_all_and_one_of_what_was_trained(points):
  front = lambda key: [p["name"] for p in points if p[key]]
  assert front("on_front") == ["zlib"]
  assert front("on_trained_front") == ["code"]


def test_missing_baselines_are_named(points):
  assert survival_plot.absent(points) == []
  code = [p for p in points if p["name"] == "code"]
  text = survival_plot.figure(code).texts[-1].get_text()
  for name in ("identity", "general compressors", "English arms", "untrained"):
    assert name in text


def test_runs_that_do_not_belong_together_are_refused():
  one, other = ({"seed": i, "rsrc": fake_rsrc()} for i in (0, 1))
  other["rsrc"]["samples_served"] = 512
  with pytest.raises(ValueError, match=r"samples_served is .*--samples"):
    survival_map.points([one, other])
  points = survival_map.points([one, other], samples=512)
  # 2048 -> 512 is a quarter; the other one was declared for it.
  first, second = (
    p for p in points if p["name"] == "code" and p["mark"] == "seed"
  )
  assert 4 * first["rsrc_t"] == pytest.approx(second["rsrc_t"])
  other["rsrc"]["verifier"] = "trigram"
  with pytest.raises(ValueError, match="verifier differs"):
    survival_map.points([one, other], samples=512)
  with pytest.raises(ValueError, match='no "rsrc" block'):
    survival_map.points([one, {"seed": 3}])
  with pytest.raises(ValueError, match="points is empty"):
    survival_map.write([], "unused")


def test_command_line_reads_folders_files_and_patterns(tmp_path, capsys):
  for run in three_seeds():
    folder = tmp_path / f"run-{run['seed']}"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(run))
  old = tmp_path / "old.json"
  old.write_text(json.dumps({"seed": 4}))
  broken = tmp_path / "broken.json"
  broken.write_text("{")
  out = tmp_path / "out"
  asked = ["map", f"{tmp_path}/run-*", str(old), str(broken), "nowhere"]
  assert metrics.main([*asked, "--output", str(out), "--samples", "1e6"]) == 0
  printed = capsys.readouterr()
  assert printed.out.count("survival_map.") == 4
  errors = printed.err.splitlines()
  assert len(errors) == 3
  assert 'old.json: has no "rsrc" block' in errors[0]
  assert "broken.json: cannot be read" in errors[1]
  assert "nowhere: no such file" in errors[2]
  points = json.loads((out / "survival_map.json").read_text())["points"]
  assert {p["samples_served"] for p in points} == {1e6}
  assert {p["mark"] for p in points} == {"seed", "mean"}
  assert metrics.main(["map", str(old), "--output", str(tmp_path / "no")]) == 1
  assert len(capsys.readouterr().err.splitlines()) == 2
  assert not (tmp_path / "no").exists()
  asked = ["map", str(old), "--output", str(out), "--samples", "-1"]
  assert metrics.main(asked) == 2


@pytest.mark.parametrize(
  "block",
  ["text", 3, ["arms"], {"arms": ["code"]}, {"arms": "code"}, {"arms": {}}],
)
def test_a_block_that_is_none_is_one_line(tmp_path, capsys, block):
  path = tmp_path / "summary.json"
  path.write_text(json.dumps({"seed": 0, "rsrc": block}))
  asked = ["map", str(tmp_path), "--output", str(tmp_path / "no")]
  assert metrics.main(asked) == 1
  first, second = capsys.readouterr().err.splitlines()
  assert first.startswith(f"{tmp_path}: ") and '"rsrc" block' in first
  assert second.startswith("error: ")
  assert survival_map.marks({"rsrc": block}, run_arms.of({}, {}, [])) == []


def test_an_arm_whose_parts_are_none_of_theirs_is_drawn_as_unknown():
  parts = ("joules_per_sample", "flops_per_sample", "m_star", "n_star")
  arms = {"code": dict.fromkeys(parts, "text") | {"k": 1.0}, "x": "text"}
  block = {"arms": arms, "samples_served": 10}
  [point] = survival_map.points([{"seed": 0, "rsrc": block}])
  assert point["name"] == "code" and point["joules"] is None


def test_the_csv_runs_no_formula():
  name = "=HYPERLINK(1)"
  block = {"arms": {name: {"k": -1.0}}, "samples_served": 10}
  points = survival_map.points([{"seed": 0, "rsrc": block}])
  row = next(csv.DictReader(survival_map._csv(points, []).splitlines()))
  assert row["name"] == row["label"] == "'=HYPERLINK(1)"
  assert row["k"] == "-1.0"
