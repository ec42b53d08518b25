"""What lies in ``deploy/`` cannot be run here. It is read by the parsers and schemas of what will, and its commands,
settings and numbers are compared with those that the program has."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from typer.main import get_command

from hidream_edit.cli.main import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PROGRAM = "/opt/hidream-edit/bin/hidream-edit"
# Kinds that no schema on PyPI describes.
OTHERS_KINDS = {"Kustomization", "ScaledObject"}
EXPOSURE_MAX = {"hidream-edit-api.service": 20, "hidream-edit-runner@.service": 25}  # of 100; unhardened units have 96


def documents(*files: Path) -> list[dict[str, Any]]:
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def pods() -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"] for one in documents(*MANIFESTS) if one["kind"] == "Deployment"}


def parse(words: list[str]) -> None:
    """Read a command line as the program would, without running it."""
    command: Any = get_command(app)
    name, rest = "hidream-edit", list(words)
    while hasattr(command, "commands"):
        assert rest, "a command is missing"
        name, *rest = rest
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    command.make_context(name, rest)


def dockerfile(file: Path) -> DockerfileParser:
    return DockerfileParser(fileobj=io.BytesIO(file.read_bytes()))


def instructions(file: Path) -> dict[str, str]:
    """The last instruction of each kind."""
    return {one["instruction"]: one["value"] for one in dockerfile(file).structure}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the program in here, and where it is."""
    for file in DOCKERFILES:
        last = instructions(file)
        yield file.name, [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        if "build" in service:
            yield f"compose {name}", ["hidream-edit", *service["command"]]
    for name, pod in pods().items():
        yield f"kubernetes {name}", ["hidream-edit", *pod["template"]["spec"]["containers"][0]["args"]]
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        yield unit.name, line.replace(PROGRAM, "hidream-edit").replace("%i", "0").split()
    for guide in GUIDES:
        for block in re.findall(r"^```sh\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "hidream-edit" in words[:2] and not words[0].startswith(("kubectl", "docker")):
                    yield guide.name, words[words.index("hidream-edit") :]
                elif words[:2] == ["docker", "compose"] and "run" in words:
                    yield guide.name, ["hidream-edit", *words[words.index("--rm") + 2 :]]


@pytest.mark.parametrize(("where", "words"), [*commands()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_is_one_that_the_program_has(where: str, words: list[str]) -> None:
    assert words[0] == "hidream-edit", where
    parse(words[1:])


def test_commands_are_found_everywhere() -> None:
    ours = {f"{kind} {name}" for kind in ("compose", "kubernetes") for name in ("api", "runner")}
    files = {file.name for file in [*DOCKERFILES, *UNITS, *GUIDES]}
    assert {where for where, _ in commands()} == ours | files


@pytest.mark.parametrize("words", [["serve", "--no-such-option"], ["no-such-command"], ["keys", "made"]])
def test_a_command_that_the_program_lacks_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"no command|No such option|no-such"):
        parse(words)


def test_every_setting_is_documented_and_real() -> None:
    documented = set(re.findall(r"`(HIDREAM_EDIT_\w+)`", (ROOT / "docs/reference/settings.md").read_text()))
    documented.add("HIDREAM_EDIT_PUBLISH")  # of the compose file itself
    for file in [*DEPLOY.rglob("*"), *GUIDES]:
        if file.is_file():
            assert set(re.findall(r"\bHIDREAM_EDIT_[A-Z0-9_]+", file.read_text())) <= documented, file


def test_every_word_that_the_compose_file_asks_for_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    given = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert asked == set(given)
    assert [name for name, value in given.items() if value and re.search("PASSWORD|SECRET|ACCESS", name)] == []


def test_the_compose_file_keeps_to_the_published_schema() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_compose_file_has_all_parts_confines_ours_and_gives_the_runner_a_gpu() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"database", "objects", "api", "runner"}
    for name in ("api", "runner"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()
    (device,) = services["runner"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert services["api"]["ports"] == ["${HIDREAM_EDIT_PUBLISH:-127.0.0.1:8000}:8000"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_images_pass_the_linter_run_as_nobody_and_tell_their_health(file: Path) -> None:
    run("hadolint", file)
    last = instructions(file)
    assert last["USER"] == "10001"
    assert "/health/live" in last["HEALTHCHECK"]
    assert all(":" in image and not image.endswith(":latest") for image in dockerfile(file).parent_images)


def test_the_image_of_the_api_has_no_torch() -> None:
    extras = {file.name: re.findall(r"'\.\[(.*?)\]'", file.read_text()) for file in DOCKERFILES}
    assert extras == {"Dockerfile.api": ["serve,postgres,s3"], "Dockerfile.runner": ["engine,serve,postgres,s3"]}


def test_what_images_copy_is_sent_to_the_builder() -> None:
    sent = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    for file in DOCKERFILES:
        copied = [one["value"].split()[:-1] for one in dockerfile(file).structure if one["instruction"] == "COPY"]
        names = {name for names in copied for name in names if not name.startswith(("--from", "/"))}
        assert names <= sent
        assert all((ROOT / name).exists() for name in names)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_keep_to_the_schema_of_kubernetes(file: Path) -> None:
    for document in documents(file):
        if document["kind"] not in OTHERS_KINDS:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_a_manifest_with_a_wrong_word_would_be_noticed() -> None:
    (document, *_) = documents(DEPLOY / "kubernetes/api.yaml")
    document["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_customisation_names_every_manifest() -> None:
    (kustomization,) = documents(DEPLOY / "kubernetes/kustomization.yaml")
    assert {*kustomization["resources"], "kustomization.yaml"} == {file.name for file in MANIFESTS}
    named = {image["name"] for image in kustomization["images"]}
    assert named == {pod["template"]["spec"]["containers"][0]["image"] for pod in pods().values()}


def test_pods_are_confined_probed_and_have_time_to_drain() -> None:
    (settings,) = documents(DEPLOY / "kubernetes/settings.yaml")
    for name, deployment in pods().items():
        pod = deployment["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        ports = {port["name"] for port in container["ports"]}
        probes = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {probe["port"] for probe in probes.values()} <= ports
        assert probes["livenessProbe"]["path"] == "/health/live"
        assert probes["readinessProbe"]["path"] == ("/health/ready" if name == "runner" else "/health/live")
        assert {"configMapRef", "secretRef"} == {kind for source in container["envFrom"] for kind in source}
    grace = float(settings["data"]["HIDREAM_EDIT_SERVER_GRACE_SECONDS"])
    assert pods()["runner"]["template"]["spec"]["terminationGracePeriodSeconds"] > grace


def test_everything_that_selects_pods_selects_some() -> None:
    labels = [pod["template"]["metadata"]["labels"] for pod in pods().values()]
    for document in documents(*MANIFESTS):
        spec = document.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        wanted = selector.get("matchLabels", selector if document["kind"] == "Service" else {})
        assert any(wanted.items() <= one.items() for one in labels), document["metadata"]


def test_scaling_points_at_deployments_and_asks_for_depth_and_age() -> None:
    scaled = [one for one in documents(*MANIFESTS) if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]
    assert {one["spec"]["scaleTargetRef"]["name"] for one in scaled} == set(pods())
    (keda,) = [one for one in scaled if one["kind"] == "ScaledObject"]
    queries = [trigger["metadata"]["query"] for trigger in keda["spec"]["triggers"]]
    assert "hidream_edit_queue_depth" in queries[0]
    assert "hidream_edit_queue_oldest_seconds" in queries[1]
    assert keda["spec"]["minReplicaCount"] >= 1


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_read_by_systemd_and_leave_little_open(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd-analyze is missing"
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "hidream-edit"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    copied = tmp_path / unit.name.replace("@.", "@0.")
    copied.write_text(unit.read_text().replace(PROGRAM, str(program)))
    assert copied.name not in run("systemd-analyze", "verify", copied)
    run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX[unit.name]}", copied)


def metric_names(text: str) -> set[str]:
    """As they are documented: the parts of a histogram are one name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bhidream_edit_\w+", text)}


def test_the_dashboard_shows_every_documented_number_and_no_other() -> None:
    dashboard = json.loads((DEPLOY / "grafana/hidream-edit.json").read_text())
    shown = metric_names(" ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]))
    assert shown == documented_metrics()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("file", [DEPLOY / "kubernetes/autoscaling.yaml", ROOT / "docs/guides/monitoring.md"])
def test_queries_elsewhere_name_documented_numbers(file: Path) -> None:
    names = metric_names(file.read_text())
    assert names
    assert names <= documented_metrics()


def documented_metrics() -> set[str]:
    """Which `tests/api/test_metrics.py` compares with a server's."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    return set(re.findall(r"^\| `(hidream_edit_\w+)` \|", text, re.MULTILINE))


def test_examples_in_guides_are_yaml() -> None:
    for guide in GUIDES:
        for block in re.findall(r"^```yaml\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL):
            assert isinstance(yaml.safe_load(block), dict)


def run(program: str, *arguments: str | Path) -> str:
    """What it printed; a failure shows it."""
    beside = Path(sys.executable).parent / program
    done = subprocess.run(
        [str(beside) if beside.exists() else program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
