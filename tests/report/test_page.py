"""The page of a run: its sections, figures and tables, and what is refused by file and key."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
import torch

from alignflow.checkpoint import CheckpointError, save_folder
from alignflow.report import ReportError, build_report

SECTIONS = ["samples", "distribution", "distance", "cost", "held-out", "training", "graph"]
SECTIONS += ["reproduce"]


class Page(HTMLParser):
    """What the tests ask of a page: its sections, its outside links, its tags and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.sections, self.links, self.tags, self.labels, self.unclosed = [], [], [], [], []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "svg":
            self.labels.append(attributes.get("aria-label"))
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            if name in attributes:
                self.links.append(attributes[name])
        if tag not in ("meta", "img"):
            self.unclosed.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.unclosed = self.unclosed[:-1] if tag not in ("meta", "img") else self.unclosed

    def handle_endtag(self, tag):
        assert self.unclosed.pop() == tag

    def handle_data(self, data):
        if self.unclosed[-1:] != ["style"]:
            self.words += data


@pytest.fixture(scope="module")
def html(full_run):
    return build_report(full_run).read_text("utf-8")


def test_a_full_run_has_every_section_and_is_well_formed(html):
    page = Page(html)
    assert page.sections == SECTIONS
    assert page.unclosed == []


def test_the_page_fetches_nothing_and_runs_nothing(html):
    page = Page(html)
    assert page.links and all(
        link.startswith(("data:image/png;base64,", "#")) for link in page.links
    )
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?:|@import|url\((?!#)", outside)


def test_every_figure_has_a_title_and_every_reference_inside_it_resolves(html):
    page = Page(html)
    assert len(page.labels) == 2 + 2 + 3 + 1  # distribution, distances, curves, graph
    assert all(page.labels)
    ids = re.findall(r' id="([^"]+)"', html)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    assert len(set(ids)) == len(ids)


def test_figures_take_their_colors_from_the_page(html):
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    assert {"--model-0", "--model-1", "--model-2", "--ink"} <= used
    assert not re.search(r"#[0-9a-f]{6}\b", drawings)
    assert used <= set(re.findall(r"(--[\w-]+):", html))


def test_portraits_stand_in_aligned_rows_of_the_same_noise(html):
    labels = re.findall(r'<img [^>]*alt="([^"]*)"', html)
    names = ["base", "steered: lookahead", "tuned: weighted"]
    wanted = [f"{name}, noise {i}" for _ in range(2) for name in names for i in range(1, 9)]
    assert labels == wanted
    assert 'class="pixelated"' in html


def test_the_costs_and_the_gap_to_the_tilt_stand_in_the_table(html):
    rows = re.findall(r"<tr><th>.*?</tr>", html, flags=re.DOTALL)
    cells = [unescape(re.sub(r"<[^>]*>", " ", row)).split() for row in rows]
    lookahead = next(c for c in cells if c[:2] == ["steered:", "lookahead"])
    assert lookahead[2:7] == ["16", "8", "9", "8", "0.031"]
    # (9.1 + 5) points over five attributes
    assert lookahead[-3] == "2.8"


def test_what_a_run_did_not_write_leaves_no_heading(bare_run, make_result, write):
    content = make_result(n=50)
    content["tilt"] = None
    content["models"] = [
        {key: model[key] for key in ("name", "rewards", "mean_reward")}
        for model in content["models"]
    ]
    write(bare_run, content)
    page = Page(build_report(bare_run).read_text("utf-8"))
    assert page.sections == ["distribution"]
    assert page.tags.count("h2") == 1
    assert "no exact tilt is known" in page.words


def test_points_are_drawn_on_one_pair_of_axes_each(bare_run, make_result, write):
    content = make_result(n=50) | {"event": "points"}
    write(bare_run, content)
    generator = torch.Generator().manual_seed(0)
    samples = {m["name"]: torch.randn(63, 2, generator=generator) for m in content["models"]}
    save_folder(bare_run / "stages/evaluate/samples", samples, {})
    page = Page(build_report(bare_run).read_text("utf-8"))
    assert page.sections[0] == "samples"
    assert page.labels[:3] == list(samples)


REFERENCE = {
    "mean_reward": [0.4, 0.01],
    "distances": {
        name: {"state": [0.1, 0.02], "pair distance": [0.2, 0.01]}
        for name in ("reference", "base", "steered: lookahead", "tuned: weighted")
    },
    "histograms": {
        "pair distance": {
            "edges": [0.0, 1.0, 2.0],
            "shares": {"reference": [0.5, 0.5], "base": [0.9, 0.1], "tuned: weighted": [0.4, 0.6]},
        }
    },
    "weighed": {
        "base": {
            "n": 100,
            "mean_reward": [0.3, 0.1],
            "distances": {"state": [0.3, 0.02], "pair distance": [0.4, 0.01]},
            "ess": 0.07,
            "weighed_reward": [1.5, 0.2],
        }
    },
}


def test_a_reference_stands_beside_the_models(bare_run, make_result, write):
    write(bare_run, make_result(n=50) | {"reference": REFERENCE})
    page = Page(build_report(bare_run).read_text("utf-8"))
    assert "reference" in page.sections and "pair distance against the reference" in page.labels
    assert "7.0%" in page.words and "1.50 ± 0.20" in page.words


def test_what_is_no_reference_is_refused_by_its_key(bare_run, make_result, write):
    broken = REFERENCE | {"distances": {"base": {"state": 3}}}
    write(bare_run, make_result(n=50) | {"reference": broken})
    with pytest.raises(ReportError, match=r"reference\.distances\.base\.state must be a list"):
        build_report(bare_run)


@pytest.mark.parametrize(("event", "shape"), [("points", (2,)), ("image", (3, 8, 8))])
def test_episodes_are_shown_from_noise_to_their_ends(event, shape, bare_run, make_result, write):
    content = make_result(n=50) | {"event": event}
    write(bare_run, content)
    names = ("base", "tuned: weighted")
    paths = {name: torch.rand(6, 11, *shape) for name in names}
    folder = bare_run / "stages/evaluate"
    ends = {name: path[:, -1] for name, path in paths.items()}
    save_folder(folder / "samples", ends | {"steered: lookahead": ends["base"]}, {})
    save_folder(folder / "episodes", paths, {"times": [k / 10 for k in range(11)]})
    html = build_report(bare_run).read_text("utf-8")
    page = Page(html)
    assert page.sections[:2] == ["samples", "episodes"]
    if event == "points":
        assert "State by state" in page.labels and "time 0.5" in html
    else:  # four episodes of two models at eight of the times, after six noises of three models
        assert html.count("<img ") == 6 * 3 + 4 * 2 * 8


def test_episodes_without_their_times_are_refused(bare_run):
    paths = {"base": torch.rand(6, 5, 2)}
    save_folder(bare_run / "stages/evaluate/episodes", paths, {"times": [0.0, 1.0]})
    with pytest.raises(ReportError, match="must hold states"):
        build_report(bare_run)


def test_names_and_configs_cannot_write_html(bare_run, make_result, write):
    evil = "<script>alert(1)</script>&\"'$x$"
    content = make_result(n=50)
    content["reward_name"] = evil
    content["models"][1]["name"] = f"steered: {evil}"
    content["tilt"]["name"] = evil
    for model in content["models"]:
        model["rates"][evil] = [0.5, 0.4, 0.6]
        model["held_out"][evil] = [0.5, 0.1]
    content["models"][1]["distance_to_base"][evil] = [0.5, 0.1]
    write(bare_run, content)
    stage = bare_run / "stages/steer"
    stage.mkdir()
    node = {"name": "<script>alert(1)</script>", "reads": [], "writes": []}
    graph = {"title": evil, "nodes": [node], "edges": []}
    (stage / "graph.json").write_text(json.dumps(graph))
    (stage / "graph.txt").write_text(evil)
    lines = [json.dumps({"step": i, evil: float(i)}) + "\n" for i in range(3)]
    (stage / "metrics.jsonl").write_text("".join(lines))
    for name in ("config.yaml", "command.txt"):
        (bare_run / name).write_text(evil)
    (bare_run / "versions.json").write_text(json.dumps({evil: evil}))
    html = build_report(bare_run).read_text("utf-8")
    page = Page(html)
    assert "script" not in page.tags
    assert page.unclosed == []
    assert html.count("alert(1)") > 10
    assert page.words.count(evil) > 5


def test_a_large_image_is_not_drawn_as_pixel_art(bare_run, make_result, write):
    samples = {m["name"]: torch.rand(2, 1, 96, 96) for m in make_result(n=5)["models"]}
    save_folder(bare_run / "stages/evaluate/samples", samples, {})
    html = build_report(bare_run).read_text("utf-8")
    assert 'class="pixelated"' not in html
    assert html.count("<img ") == 6


def test_a_half_written_last_line_of_metrics_is_passed_over(bare_run):
    lines = ['{"step": 1, "loss": 2.0}', '{"step": 2, "loss": 1.0}', '{"step": 3, "lo']
    (bare_run / "metrics.jsonl").write_text("\n".join(lines))
    assert "training" in Page(build_report(bare_run).read_text("utf-8")).sections


def test_a_contents_list_leads_to_every_section(html):
    contents = re.search(r'<nav class="contents".*?</nav>', html, re.DOTALL)
    assert contents is not None
    assert re.findall(r'<a href="#([^"]+)">', contents.group()) == SECTIONS
    assert "The same noise, before and after" in contents.group()


def test_the_headline_is_one_line_with_its_sentence_below(html):
    [line] = re.findall(r"<h1>(.*?)</h1>", html)
    assert line == "With glasses: 20.0% → 74.0% lookahead, 58.0% weighted; exact tilt 64.9%"
    assert html.index("</h1>") < html.index("the reward p(glasses) raised")


def test_every_cell_says_its_column_where_rows_are_stacked(html):
    for table in re.findall(r"<table.*?</table>", html, re.DOTALL):
        head, *rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        columns = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<th.*?</th>", head)][1:]
        for row in rows:
            cells = re.findall(r"<td(.*?)>(.*?)</td>", row)
            labels = [re.search(r'data-label="(.*?)"', attributes) for attributes, _ in cells]
            assert len(cells) == len(columns)
            for label, column, (_, value) in zip(labels, columns, cells, strict=True):
                assert not value if label is None else label.group(1) == column


def test_no_line_is_drawn_through_two_points_or_the_stages(bare_run):
    lines = [{"step": i, "stage": name, "seconds": 10.0 * i + 5}
             for i, name in enumerate(("finetune", "steer", "finetune"))]  # fmt: skip
    (bare_run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (bare_run / "stages/finetune").mkdir()
    points = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (50, 100))
    (bare_run / "stages/finetune/metrics.jsonl").write_text(points)
    html = build_report(bare_run).read_text("utf-8")
    assert Page(html).labels[-2:] == ["finetune: loss", "Seconds of each stage"]
    texts = re.findall(r"<text[^>]*>(.*?)</text>", html)
    assert {"step 50", "step 100"} < set(texts)
    assert {"finetune", "steer", "30", "15"} < set(texts)  # 5 and 25 seconds of one stage


@pytest.mark.parametrize(("network", "module"), [("mlp", ""), (None, ", module=MyNet()")])
def test_the_page_says_how_to_load_the_tuned_model(bare_run, monkeypatch, network, module):
    save_folder(bare_run / "stages/finetune/model", {}, {"network": network})
    monkeypatch.chdir(bare_run.parent)
    page = Page(build_report(bare_run).read_text("utf-8"))
    assert "use" in page.sections
    assert f'af.load("{bare_run.name}/stages/finetune/model"{module})' in page.words
    monkeypatch.chdir(bare_run)
    assert '"stages/finetune/model"' in Page(build_report(bare_run).read_text("utf-8")).words


def test_two_builds_of_one_run_are_the_same_page(full_run, html):
    assert build_report(full_run).read_text("utf-8") == html


def _set(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["strength"], "two", r"result\.json: strength must be a finite number, got 'two'"),
        (["event"], "video", r"event must be one of image, points, other, got 'video'"),
        (["models"], [], r"models must have different names, one of them 'base'; got \[\]"),
        (["models", 1, "name"], "base", r"models must have different names"),
        (["models", 1, "rewards", 3], float("nan"), r"models\[1\]\.rewards\[3\] must be a finite"),
        (["models", 0, "rewards"], [], r"models\[0\]\.rewards must be at least one reward"),
        (
            ["models", 0, "mean_reward"],
            [0.1],
            r"models\[0\]\.mean_reward must be \[value, standard",
        ),
        (
            ["models", 0, "rates", "hat"],
            [0.5, 0.6, 0.7],
            r"models\[0\]\.rates\.hat must be \[value,",
        ),
        (["models", 0, "cost", "nfe"], None, r"models\[0\]\.cost\.nfe must be a finite number"),
        (["tilt", "ess"], [], r"tilt\.ess must be a finite number"),
    ],
)
def test_a_broken_result_names_its_file_and_key(bare_run, make_result, write, path, value, message):
    content = make_result(n=5)
    _set(content, path, value)
    write(bare_run, content)
    with pytest.raises(ReportError, match=message):
        build_report(bare_run)
    assert not (bare_run / "report.html").exists()


@pytest.mark.parametrize("key", ["models", "reward_name", "strength", "event"])
def test_a_missing_key_is_named(bare_run, make_result, write, key):
    content = make_result(n=5)
    del content[key]
    write(bare_run, content)
    with pytest.raises(ReportError, match=rf"result\.json has no '{key}'"):
        build_report(bare_run)


def test_a_missing_result_or_folder_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"stages/evaluate/result\.json is missing"):
        build_report(tmp_path)
    with pytest.raises(ReportError, match="there is no such folder"):
        build_report(tmp_path / "nowhere")


def test_a_file_that_is_not_json_is_named(bare_run):
    (bare_run / "metrics.jsonl").write_text('nonsense\n{"step": 1}\n')
    with pytest.raises(ReportError, match=r"metrics\.jsonl: line 1 is not JSON"):
        build_report(bare_run)
    for line, message in (
        ('{"step": "one"}', r"line 1\.step must be a finite number, got 'one'"),
        ('{"step": 1, "seconds": "two"}', r"line 1\.seconds must be a finite number, got 'two'"),
        ('{"loss": 1.0}', r"has no 'line 1\.step'"),
    ):
        (bare_run / "metrics.jsonl").write_text(line + "\n")
        with pytest.raises(ReportError, match=rf"metrics\.jsonl.*{message}"):
            build_report(bare_run)
    (bare_run / "stages/evaluate/result.json").write_text("{")
    with pytest.raises(ReportError, match=r"result\.json is not JSON"):
        build_report(bare_run)


def test_samples_that_are_not_what_the_result_says_are_refused(bare_run, make_result, write):
    folder = bare_run / "stages/evaluate/samples"
    save_folder(folder, {"stranger": torch.rand(2, 3, 4, 4)}, {})
    with pytest.raises(ReportError, match="samples of 'stranger'"):
        build_report(bare_run)
    save_folder(folder, {"base": torch.rand(2, 5, 4, 4)}, {})
    with pytest.raises(ReportError, match=r"'base' must be images \(n, 1 or 3, H, W\)"):
        build_report(bare_run)
    save_folder(folder, {"base": torch.rand(2, 3), "tuned: weighted": torch.rand(3, 3)}, {})
    with pytest.raises(ReportError, match="must agree in shape"):
        build_report(bare_run)
    save_folder(folder, {"base": torch.rand(2, 3)}, {})
    write(bare_run, make_result(n=5) | {"event": "points"})
    with pytest.raises(ReportError, match=r"'base' must be points \(n, 2\), got \(2, 3\)"):
        build_report(bare_run)
    (folder / "tensors.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="truncated or altered"):
        build_report(bare_run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"edges": [{"source": 1, "target": 0, "keys": []}]},
            "from 1 to 0 does not lead to a later",
        ),
        ({"nodes": [{"name": "a", "reads": 3, "writes": []}]}, r"nodes\[0\]\.reads must be a list"),
        ({"nodes": None}, r"nodes must be a list, got None"),
    ],
)
def test_a_graph_that_cannot_be_drawn_names_its_file_and_key(bare_run, change, message):
    nodes = [{"name": name, "reads": [], "writes": []} for name in "ab"]
    graph = {"title": "two", "nodes": nodes, "edges": []} | change
    (bare_run / "stages/steer").mkdir()
    (bare_run / "stages/steer/graph.json").write_text(json.dumps(graph))
    with pytest.raises(ReportError, match=rf"graph\.json: .*{message}"):
        build_report(bare_run)


def test_a_graph_of_an_earlier_version_is_shown_as_text(bare_run):
    (bare_run / "stages/steer").mkdir()
    (bare_run / "stages/steer/graph.mmd").write_text("flowchart LR\na --> b\n")
    (bare_run / "stages/steer/graph.txt").write_text("a, then b")
    page = Page(build_report(bare_run).read_text("utf-8"))
    assert "graph" in page.sections and "a, then b" in page.words
    assert not any("graph" in (label or "") for label in page.labels)
