# SPDX-License-Identifier: Apache-2.0
"""What README and docs say of commands, files, parameters and topics is so."""

import argparse
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from disam_ros.cli import command_line, main
from disam_ros.cli.parameters import NODES
from disam_ros.entry import MODULES
from disam_ros.settings import parameter_rows

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
PAGES = {str(p.relative_to(DOCS)): p.read_text() for p in sorted(DOCS.rglob("*.md"))}
PAGES["README.md"] = README
ROS = PAGES["ros.md"]
MAX_WORDS = 600
NODE_NAMES = {"localizer_node": "localizer", "map_builder_node": "map_builder"}
# Options of docker, pytest, uv and VPR-methods-evaluation.
FOREIGN = {"--build-arg", "--hypothesis-profile", "--compile-bytecode"}
FOREIGN |= {"--num_preds_to_save"}


def commands(text):
    """The commands of the code blocks, one list of words each, comments left out."""
    blocks = re.findall(r"^( *)```(?:bash|text)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\w+", "1", "\n".join(block for _, block in blocks))  # shell variables
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&| \| | &$", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [line for line in words if line]


def shown(program):
    """(page, arguments) of each use of a program in the code blocks."""
    result = []
    for page, text in PAGES.items():
        for words in commands(text):
            names = [Path(word).name for word in words]
            if program in names:
                result.append((page, words[names.index(program) + 1 :]))
    return result


def parsers(parser, name="disam"):
    """(command, its options) of a parser and its subcommands."""
    if parser.fill:
        parser.fill(parser)
    yield name, set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                yield from parsers(sub, f"{name} {word}")


def parameters(node):
    """The names of a node's parameters."""
    return [row.split("`")[1] for row in parameter_rows(NODES[node])]


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short_and_begins_with_the_two_commands():
    assert len(README.replace("|", " ").split()) <= MAX_WORDS
    first_block = README[README.index("```bash") :]
    assert first_block.index("make demo") < first_block.index("make test") < 200


def test_every_make_target_in_the_docs_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, words in shown("make"):
        assert words[0] in targets, page


def test_every_disam_command_in_the_docs_is_understood(capsys):
    uses = shown("disam")
    assert len(uses) > 20
    for page, words in uses:
        given = [word for word in words if word not in (">", "…") and not word.startswith("[")]
        given = given[: words.index(">")] if ">" in words else given
        try:
            command_line().parse_args(given)
        except SystemExit:
            pytest.fail(f"{page}: disam {' '.join(words)}: {capsys.readouterr().err}")


def test_every_command_and_option_in_the_prose_of_the_docs_exists():
    options = dict(parsers(command_line()))
    rooms = ("season_town", "training", "benchmark", "demo")  # whose programs have options, too
    others = {name for room in rooms for name in re.findall(r'"(--[\w-]+)"', sources(room))}
    others |= FOREIGN.union(*options.values())
    wrong = []
    for page, text in PAGES.items():
        prose = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`((?:--|disam )[^`]+)`", prose):
            known, name = others, re.match(r"disam [a-z-]+(?: [a-z-]+)?", code)
            if name:  # of a command of a command, or of all of them
                commands = [key for key in options if key.startswith(name[0])]
                commands = commands or [" ".join(name[0].split()[:2])]
                known = {option for key in commands for option in options.get(key, ())}
            used = re.findall(r"(?<!\S)--[a-z][\w-]+", code)
            wrong += [(page, code)] if not known or not known.issuperset(used) else []
    assert wrong == []


def test_every_executable_in_the_docs_exists():
    for page, words in shown("ros2"):
        if words[0] == "run":
            assert words[1] == "disam_ros" and words[2] in MODULES, page


def test_no_command_of_readme_or_makefile_installs_outside_of_a_virtual_environment():
    recipes = (ROOT / "Makefile").read_text()
    assert not [words for words in commands(README) if {"pip", "pip3"} & set(words)]
    assert re.findall(r"^.*pip install.*$", recipes, re.MULTILINE)
    for line in re.findall(r"^.*pip install.*$", recipes, re.MULTILINE):
        assert "$(BIN)/" in line


def test_make_keeps_the_packages_and_plugins_of_a_sourced_ros_out_of_its_environment():
    names = ("PYTHONPATH", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH", "RMW_IMPLEMENTATION")
    printed = " ".join(f"[$${name}]" for name in (*names, "PYTHONNOUSERSITE"))
    command = ["make", "--silent", f"--eval=probe: ; @echo {printed}", "probe"]
    sourced = {**os.environ, **dict.fromkeys(names, "/opt/ros/jazzy")}
    ran = subprocess.run(command, cwd=ROOT, env=sourced, capture_output=True, text=True)
    assert ran.stdout.split() == ["[]"] * 4 + ["[1]"], ran.stderr


def test_every_module_that_the_docs_run_exists():
    rooms = "season_town|benchmark|demo|disam_ros|training"
    for page, text in PAGES.items():
        for module in re.findall(rf"\bpython3? -m ((?:{rooms})\b[\w.]*\w)", text):
            assert importlib.util.find_spec(module), f"{page}: {module}"


def test_every_parameter_that_the_docs_give_a_node_exists():
    for program, node in NODE_NAMES.items():
        known = {*parameters(node), "use_sim_time"}
        for page, words in shown(program):
            given = [b.split(":=")[0] for a, b in pairwise(words) if a == "-p"]
            assert set(given) <= known, page


def test_every_parameter_in_the_docs_exists():
    known = {name for node in NODES for name in parameters(node)}
    groups = {name.rsplit(".", 1)[0] for name in known if "." in name}
    pattern = r"`((?:localizer|loop_closure|builder)\.(?!py\b)[a-z_.]+?)(?:\.?\*|:|`)"
    for page, text in PAGES.items():
        for name in re.findall(pattern, text):
            assert name in known | groups, f"{page}: {name}"


def test_the_parameter_page_is_what_the_command_prints(capsys):
    assert main(["parameters"]) == 0
    assert capsys.readouterr().out == PAGES["parameters.md"]


def test_the_parameters_of_one_node_are_printed_on_request(capsys):
    assert main(["parameters", "map_builder"]) == 0
    table = capsys.readouterr().out
    assert table in PAGES["parameters.md"] and "`pose_source`" in table


def test_every_link_leads_somewhere():
    for page, text in PAGES.items():
        folder = ROOT if page == "README.md" else (DOCS / page).parent
        links = re.findall(r"\]\((?!http)([^)\s#]*)(?:#([^)]+))?\)", text)
        for file, anchor in links:
            path = (folder / file).resolve() if file else folder / Path(page).name
            assert path.exists(), f"{page}: {file}"
            if anchor:
                assert anchor in anchors(path.read_text()), f"{page}: {file}#{anchor}"


def test_every_file_of_the_repository_in_the_docs_exists():
    rooms = "disam_ros|training|benchmark|demo|config|launch|scripts|test"
    pattern = rf"(?<![\w/.~-])((?:{rooms})/[\w./]+\.(?:py|sh|yaml|md|csv|json|rviz))\b"
    named = [path for text in PAGES.values() for path in re.findall(pattern, text)]
    assert "scripts/install_robot.sh" in named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_import_in_the_docs_works():
    pattern = r"^from (disam_ros[\w.]*) import (.+)$"
    result = [line for text in PAGES.values() for line in re.findall(pattern, text, re.MULTILINE)]
    assert result
    for module, names in result:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_the_figures_on_photographs_in_the_readme_are_those_of_the_accuracy_page():
    parts = README.split("\n\n")
    first = next(k for k, part in enumerate(parts) if "Gardens Point" in part)
    figures = re.findall(r"\d+\.\d\b", parts[first + 1])  # the table
    assert len(figures) > 9
    assert [figure for figure in figures if figure not in PAGES["accuracy.md"]] == []


def sources(folder):
    return "\n".join(path.read_text() for path in (ROOT / folder).rglob("*.py"))


def test_every_topic_and_service_of_the_nodes_is_on_the_page_of_the_interface():
    names = set(re.findall(r'"(~/\w+|/diagnostics|/tf)"', sources("disam_ros/nodes")))
    assert len(names) > 12
    assert [name for name in sorted(names) if f"`{name}`" not in ROS] == []


def test_every_diagnostic_is_on_the_page_of_the_interface():
    pytest.importorskip("rclpy")
    from disam_ros.nodes.localizer import reports
    from disam_ros.nodes.localizer.publishers import loop_closures
    from disam_ros.nodes.map_builder import node

    pattern = r'\.(?:fact|count|mark)\(\s*"([^"]+)"'
    keys = set(re.findall(pattern, sources("disam_ros/nodes")))
    assert len(keys) > 20
    keys |= {*reports.COUNTERS, *node.COUNTERS}
    keys |= {loop_closures.VERIFIED, loop_closures.NEW_DRIVES, loop_closures.REFUSED}
    assert [key for key in sorted(keys) if f"`{key}" not in ROS] == []


def test_every_key_of_an_answer_is_on_the_page_of_the_interface():
    source = (ROOT / "disam_ros/nodes/localizer/publishers/answer_status.py").read_text()
    keys = set(re.findall(r'"([a-z ]+)": |values\["([a-z ]+)"\] =', source))
    keys = {one or other for one, other in keys}
    stages = r'watch\.lap\("(\w+)"'
    keys |= {f"{stage} (ms)" for stage in re.findall(stages, sources("disam_ros/localization"))}
    assert len(keys) > 15
    assert [key for key in sorted(keys) if f"`{key}`" not in ROS] == []


def test_every_message_on_the_page_of_symptoms_is_one_of_the_package():
    text = re.sub(r'"\s*f?"', "", sources("disam_ros"))  # strings that go on in the next line
    symptoms = re.findall(r"^\| (.*?) \|", PAGES["troubleshooting.md"], re.MULTILINE)
    quoted = [code for symptom in symptoms for code in re.findall(r"`([^`]+)`", symptom)]
    assert len(quoted) > 15
    parts = [part.strip() for code in quoted for part in re.split("…|ros2 .*", code)]
    assert [part for part in parts if part not in text] == []


def test_the_page_of_formats_has_the_version_of_every_file():
    from disam_ros.datasets import dataset
    from disam_ros.datasets.aerial import tiles
    from disam_ros.evaluation import results
    from disam_ros.localization import calibration
    from disam_ros.mapping import place_map
    from disam_ros.models import model_files

    rows = re.findall(r"^\| `(\w+)\.json` \| (\d+) \|", PAGES["formats.md"], re.MULTILINE)
    versions = {name: int(version) for name, version in rows}
    assert versions == {
        "map": place_map.FORMAT_VERSION,
        "model": model_files.FORMAT_VERSION,
        "calibration": calibration.FORMAT_VERSION,
        "dataset": dataset.FORMAT_VERSION,
        "tiles": tiles.FORMAT_VERSION,
        "results": results.FORMAT_VERSION,
    }


def test_the_page_of_the_interface_names_the_parameters_that_are_read_at_configure():
    pytest.importorskip("rclpy")
    from disam_ros.nodes.localizer.node import LIVE, NOT_LIVE

    section = ROS[ROS.index("### Parameters") : ROS.index("### Bad input")]
    assert [name for name in (*LIVE, *NOT_LIVE) if f"`{name}" not in section] == []
