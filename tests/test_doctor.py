"""The doctor: right about a sound environment, and in words about a broken one."""

import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torchvision

from cellseg_d2 import __version__, doctor
from cellseg_d2.doctor import Finding

ROOT = Path(__file__).resolve().parent.parent
Usage = namedtuple("Usage", "total used free")


def by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_sound_environment(tmp_path):
    found = by_name(doctor.diagnose(tmp_path))
    for name in ("python", "cellseg_d2", "torch", "torchvision", "detectron2", "models", "libraries", "cpu"):
        assert found[name].status == "ok", found[name]
    assert found["cellseg_d2"].detail.startswith(__version__)
    assert "numpy" in found["libraries"].detail
    assert str(tmp_path) in found["output"].detail


def test_every_finding_that_is_not_ok_has_a_fix(tmp_path):
    assert all(finding.fix for finding in doctor.diagnose(tmp_path) if finding.status != "ok")


def test_runs_without_any_installed_package():
    """Python without site-packages: no torch, no Detectron2, no rich."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cellseg_d2.doctor import main; sys.exit(main())"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = {record["name"]: record for record in json.loads(done.stdout)}
    assert found["torch"]["status"] == found["detectron2"]["status"] == found["numpy"]["status"] == "fail"
    assert "make setup" in found["torch"]["fix"]
    assert found["python"]["status"] == "ok"
    text = subprocess.run(command, capture_output=True, text=True, check=False)
    assert text.returncode == 1
    assert "Traceback" not in text.stderr and "rich" in text.stderr and "--json" in text.stderr


def test_torch_that_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = list(doctor.check_torch())
    assert [(finding.name, finding.status) for finding in findings] == [("torch", "fail")]
    assert [finding.name for finding in doctor.check_device()] == ["cpu"]


def test_torchvision_of_another_torch(monkeypatch):
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nlong trace")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    finding = by_name(doctor.check_torch())["torchvision"]
    assert finding.status == "fail"
    assert "nms does not exist" in finding.detail and "long trace" not in finding.detail
    assert "belongs to this torch" in finding.fix


def test_folder_that_only_has_detectron2s_name(monkeypatch, tmp_path):
    folder = ModuleType("detectron2")
    folder.__file__, folder.__path__ = None, [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "detectron2", folder)
    (finding,) = doctor.check_detectron2()
    assert finding.status == "fail" and str(tmp_path) in finding.detail


def test_compiled_ops_of_another_torch(monkeypatch):
    real_import, real_find = doctor._try_import, doctor.importlib.util.find_spec
    broken = (None, "ImportError: undefined symbol")
    monkeypatch.setattr(doctor, "_try_import", lambda name: broken if name == "detectron2._C" else real_import(name))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name == "detectron2._C" or real_find(name))
    finding = by_name(doctor.check_detectron2())["compiled ops"]
    assert finding.status == "warn" and "undefined symbol" in finding.detail


def test_model_missing_from_its_registry(monkeypatch):
    from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY

    import cellseg_d2.modeling  # noqa: F401  (registers)

    monkeypatch.delitem(PROPOSAL_GENERATOR_REGISTRY._obj_map, "FCOS")
    finding = by_name(doctor.check_detectron2())["models"]
    assert finding.status == "fail" and "FCOS" in finding.detail and "CenterROIHeads" not in finding.detail


def test_library_that_does_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    found = by_name(doctor.check_libraries())
    assert found["shapely"].status == "fail"
    assert "shapely" not in found["libraries"].detail and found["libraries"].status == "ok"


def test_gpu_without_kernels():
    def ones(*_, **__):
        raise RuntimeError("no kernel image is available")

    properties = SimpleNamespace(name="Card", total_memory=8 * 2**30, major=9, minor=0)
    torch = SimpleNamespace(cuda=SimpleNamespace(get_device_properties=lambda _: properties), ones=ones)
    finding = doctor._check_gpu(torch, 1)
    assert finding.name == "gpu 1" and finding.status == "fail"
    assert "Card, 8.0 GiB, compute 9.0" in finding.detail and "no kernel image" in finding.detail


def test_data_folders(monkeypatch, tmp_path):
    (tmp_path / "store" / "livecell").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLSEG_DATA", f"store:{tmp_path / 'absent'}")
    findings = list(doctor.check_data())
    assert any(f"{tmp_path / 'store'}: livecell" in finding.detail for finding in findings if finding.status == "ok")
    (warning,) = [finding for finding in findings if finding.status == "warn"]
    assert "absent" in warning.detail and warning.fix


def test_output_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    found = by_name(doctor.check_folders(tmp_path / "file" / "output"))
    assert found["output"].status == "fail" and "--output" in found["output"].fix
    assert not (tmp_path / "file" / "output").exists()


def test_checks_leave_nothing_behind(tmp_path):
    list(doctor.check_folders(tmp_path / "output"))
    assert list(tmp_path.iterdir()) == []


def test_little_room(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**20))
    assert by_name(doctor.check_folders(tmp_path))["output"].status == "warn"
    (shared,) = doctor.check_shared_memory(tmp_path)
    assert shared.status == "warn" and "--shm-size" in shared.fix


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_exit_status_and_text(monkeypatch, capsys, status, code, flags):
    finding = Finding("thing", status, "seen [red]as it is[/red]", "mend it")
    monkeypatch.setattr(doctor, "diagnose", lambda output: [finding])
    assert doctor.main(flags) == code
    text = capsys.readouterr().out
    assert "[red]as it is[/red]" in text and "mend it" in text


def test_importing_the_package_loads_neither_torch_nor_detectron2():
    code = "import sys, cellseg_d2.doctor; sys.exit(bool({'torch', 'detectron2', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_add_cellseg_config_registers_the_models():
    code = (
        "from cellseg_d2 import add_cellseg_config\n"
        "from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY as P, ROI_HEADS_REGISTRY as R\n"
        "assert 'FCOS' in P and 'CenterROIHeads' in R"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
