"""The house: metadata, pins, layers, make targets, and the scripts that install and bundle."""

import ast
import hashlib
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import setuptools

import cellseg_d2

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cellseg_d2"


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bundle = load_script("bundle")
stray = load_script("drop_stray_tools")


def canonical(requirement: str) -> str:
    """Name of a requirement, as it is compared: lower case, dashes."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement)[0]).lower()


@pytest.fixture
def setup_arguments(monkeypatch) -> dict:
    seen = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return seen


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def imports(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file of the package imports, relative ones made absolute."""
    base = ["cellseg_d2", *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*prefix, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


# Metadata and layers


def test_metadata(setup_arguments):
    assert setup_arguments["name"] == "cellseg_d2"
    assert setup_arguments["version"] == cellseg_d2.__version__
    assert setup_arguments["python_requires"] == ">=3.11,<3.13"


def test_every_folder_with_code_is_installed(setup_arguments):
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("*.py")}
    assert folders == set(setup_arguments["packages"])


def test_what_is_imported_is_required(setup_arguments):
    required = {canonical(name) for name in setup_arguments["install_requires"]}
    providers = metadata.packages_distributions()
    undeclared = {}
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for name in {name.split(".")[0] for name in imports(path)} - {"cellseg_d2", "detectron2", ""}:
            known = name in sys.stdlib_module_names or required & set(map(canonical, providers.get(name, [])))
            if not known:
                undeclared.setdefault(name, path.relative_to(ROOT).as_posix())
    assert undeclared == {}


@pytest.mark.parametrize(
    ("layer", "forbidden"),
    [
        ("config.py", ("modeling", "data", "evaluation", "engine", "inference", "analysis")),
        ("modeling", ("data", "evaluation", "engine", "inference", "analysis")),
        ("data", ("evaluation", "engine", "inference", "analysis")),
        ("evaluation", ("engine", "inference", "analysis")),
        ("engine", ("inference", "analysis")),
        ("inference", ("analysis",)),
    ],
)
def test_layers(layer, forbidden):
    place = PACKAGE / layer
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    names = tuple(f"cellseg_d2.{name}" for name in forbidden)
    wrong = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in imports(path)
        if any(name == bad or name.startswith(f"{bad}.") for bad in names)
    ]
    assert wrong == []


def test_constraints_pin_everything(setup_arguments):
    assert [pin for pin in pins() if not re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.]+", pin)] == []
    names = [canonical(pin) for pin in pins()]
    assert len(names) == len(set(names))
    wanted = setup_arguments["install_requires"] + setup_arguments["extras_require"]["test"] + ["uv"]
    assert {canonical(name) for name in wanted} <= set(names)


def test_torch_and_torchvision_are_a_pair():
    versions = dict(pin.split("==") for pin in pins())
    torch, torchvision = (versions[name].split(".") for name in ("torch", "torchvision"))
    assert (torch[0], torchvision[0]) == ("2", "0")
    assert int(torchvision[1]) == int(torch[1]) + 15  # the numbering of every release since 2.0


def test_detectron2_is_pinned_by_hash():
    lines = (ROOT / "scripts" / "detectron2.txt").read_text().splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    assert re.fullmatch(r"sal-detectron2==0\.7\.2 --hash=sha256:[0-9a-f]{64}", line)


# make


def make(*arguments: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_help_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    listed = make().stdout  # help is the default
    assert sorted(re.findall(r"^make ([\w-]+) +\S", listed, re.MULTILINE)) == sorted(phony)


@pytest.mark.parametrize("target", ["help", "setup", "demo", "mes-demo", "test", "lint", "doctor", "bundle", "clean"])
def test_make_targets_parse(target, tmp_path):
    done = make("-n", target, f"VENV={tmp_path / 'env'}")
    assert done.returncode == 0, done.stderr
    sets_up = "scripts/setup.sh" in done.stdout
    assert sets_up == (target not in ("help", "clean"))


def test_setup_runs_again_only_when_its_inputs_are_newer(tmp_path):
    stamp = tmp_path / ".setup-stamp"
    stamp.touch()
    assert "scripts/setup.sh" not in make("-n", "setup", f"VENV={tmp_path}").stdout
    os.utime(stamp, (0, 0))
    assert "scripts/setup.sh" in make("-n", "setup", f"VENV={tmp_path}").stdout


def test_bundle_arguments_reach_the_script():
    text = make("-n", "bundle", "PYVER=3.11", "PLATFORM=manylinux2014_aarch64", "OUT=some/where").stdout
    assert "--python '3.11' --platform 'manylinux2014_aarch64' --out 'some/where'" in text


# Installing


@pytest.mark.parametrize("script", ["scripts/setup.sh", "scripts/offline/install.sh", ".ci/run"])
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def setup_sh(**variables) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "scripts" / "setup.sh")]
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_setup_refuses_a_wrong_python(tmp_path):
    done = setup_sh(VENV=tmp_path / "env", PYTHON="false")
    assert done.returncode == 1
    assert done.stderr.strip() == "setup: PYTHON=false is not a working Python 3.11 or 3.12."
    assert not (tmp_path / "env").exists()


def test_setup_does_not_touch_a_folder_that_is_no_environment(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = setup_sh(VENV=tmp_path)
    assert done.returncode == 1 and "no Python environment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_stray_tools_are_dropped_and_others_kept(tmp_path):
    info = tmp_path / "sal_detectron2-0.7.2.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("detectron2/__init__.py,,\ntools/__init__.py,,\ntools/deep/train.py,,\n")
    for name in ("detectron2/__init__.py", "tools/__init__.py", "tools/deep/train.py", "tools/mine.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "tools" / "__pycache__").mkdir()
    (tmp_path / "tools" / "__pycache__" / "__init__.cpython-311.pyc").write_text("")
    assert stray.drop(tmp_path) == 2
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py*")}
    assert left == {"detectron2/__init__.py", "tools/mine.py"}
    (tmp_path / "tools" / "mine.py").unlink()
    (tmp_path / "tools" / "__init__.py").write_text("")
    assert stray.drop(tmp_path) == 1
    assert not (tmp_path / "tools").exists()


# Bundling


def test_target():
    target = bundle.Target.parse("3.11", "manylinux_2_28_aarch64")
    tags = target.platform_tags()
    assert tags[0] == "manylinux_2_28_aarch64" and "manylinux2014_aarch64" in tags
    assert "manylinux_2_29_aarch64" not in tags and not any("x86" in tag for tag in tags)
    legacy = bundle.Target.parse("3.12", "manylinux2014_x86_64")
    assert legacy == bundle.Target.parse("3.12", "manylinux_2_17_x86_64")


@pytest.mark.parametrize(
    ("python", "platform", "words"),
    [
        ("3.9", "manylinux_2_28_x86_64", ["3.9", "3.11, 3.12"]),
        ("3.12", "win_amd64", ["win_amd64", "manylinux_2_28_x86_64"]),
        ("3.12", "manylinux_2_28_sparc", ["manylinux_2_28_sparc"]),
    ],
)
def test_bundle_refuses_what_it_does_not_know(python, platform, words, tmp_path, caplog):
    out = tmp_path / "bundle"
    assert bundle.main(["--python", python, "--platform", platform, "--out", str(out)]) == 1
    (record,) = caplog.records
    assert all(word in record.getMessage() for word in words) and "\n" not in record.getMessage()
    assert list(tmp_path.iterdir()) == []


def test_bundle_does_not_replace_a_folder_of_something_else(tmp_path, caplog):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert bundle.main(["--out", str(tmp_path)]) == 1
    assert "no bundle" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def fake_collection(monkeypatch):
    """Bundle without a network: two wheels, and Detectron2's."""
    monkeypatch.setattr(bundle, "resolve", lambda target: ["a==1"])
    monkeypatch.setattr(bundle, "download", lambda pins, target, to: (to / "a-1-py3-none-any.whl").write_text("a"))
    monkeypatch.setattr(bundle, "build_own", lambda to: (to / "cellseg_d2-1-py3-none-any.whl").write_text("own"))
    monkeypatch.setattr(bundle, "download_detectron2", lambda to: (to / "d2.whl").write_text("d2"))


def test_bundle_lists_every_file_with_its_hash(fake_collection, tmp_path):
    out = tmp_path / "dist" / "bundle"
    assert bundle.main(["--python", "3.11", "--out", str(out)]) == 0
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    assert sums["wheels/a-1-py3-none-any.whl"] == hashlib.sha256(b"a").hexdigest()
    assert "@PYTHON@" not in (out / "install.sh").read_text() + (out / "INSTALL.txt").read_text()
    assert os.access(out / "install.sh", os.X_OK)


def test_failed_bundle_leaves_the_older_one(fake_collection, monkeypatch, tmp_path, caplog):
    out = tmp_path / "bundle"
    assert bundle.main(["--out", str(out)]) == 0
    before = (out / "SHA256SUMS").read_text()

    def wrong_hash(folder):
        raise bundle.BundleError("hash differs")

    monkeypatch.setattr(bundle, "download_detectron2", wrong_hash)
    assert bundle.main(["--out", str(out)]) == 1
    assert "hash differs" in caplog.text
    assert (out / "SHA256SUMS").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["b-1-cp312-cp312-linux_x86_64.whl", "b-1.tar.gz", "b-1-cp312-cp312-win_amd64.whl"])
def test_bundle_refuses_wheels_of_another_machine(name, tmp_path):
    target = bundle.Target.parse("3.12", "manylinux_2_28_x86_64")
    (tmp_path / "a-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl").write_text("")
    (tmp_path / "cellseg_d2-1-py3-none-any.whl").write_text("")
    bundle.check_wheels(tmp_path, target, ["a==1"])
    with pytest.raises(bundle.BundleError, match="2 wheels were to be collected, 1 are there"):
        (tmp_path / "cellseg_d2-1-py3-none-any.whl").unlink()
        bundle.check_wheels(tmp_path, target, ["a==1"])
    (tmp_path / name).write_text("")
    with pytest.raises(bundle.BundleError, match=re.escape(name)):
        bundle.check_wheels(tmp_path, target, ["a==1"])


def test_torch_and_its_cuda_are_not_bundled():
    heavy = {canonical(pin) for pin in pins() if bundle.TORCH_FAMILY.match(pin)}
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"} <= heavy
    assert not {"numpy", "tensorboard", "cloudpickle"} & heavy


def test_own_wheel_has_the_code_and_no_tests(tmp_path):
    pytest.importorskip("pip", reason="building a wheel takes pip")
    import zipfile

    bundle.build_own(tmp_path)
    (wheel,) = tmp_path.iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"cellseg_d2/__init__.py", "cellseg_d2/config.py", "cellseg_d2/doctor.py"} <= set(names)
    assert not any(name.startswith(("tests/", "tools/", "scripts/")) for name in names)


def test_failing_command_is_one_line():
    with pytest.raises(bundle.BundleError, match="no such option") as raised:
        bundle.run([sys.executable, "-c", "import sys; sys.exit('usage\\nerror: no such option')"])
    assert "\n" not in str(raised.value)


def test_offline_install_refuses_another_python(tmp_path):
    script = tmp_path / "install.sh"
    script.write_text((ROOT / "scripts" / "offline" / "install.sh").read_text().replace("@PYTHON@", "2.7"))
    done = subprocess.run(["bash", script, sys.executable], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "this bundle is for Python 2.7" in done.stderr
