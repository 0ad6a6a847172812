"""What an installed copy holds: every module, every experiment, nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # A copy: setuptools builds beside its sources, and would leave that in the checkout.
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "mvit_tf", "configs"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", folder, source], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_module_and_experiment(wheel):
    modules = {
        str(path.relative_to(ROOT))
        for kind in ("py", "pyi", "yaml", "txt")
        for path in ROOT.glob(f"mvit_tf/**/*.{kind}")
    }
    experiments = {
        f"mvit_tf/{path.relative_to(ROOT)}"
        for kind in ("*.yaml", "*.weights.h5", "studies/*.yaml")
        for path in ROOT.glob(f"configs/{kind}")
    }
    assert {"mvit_tf/configs/demo.yaml", "mvit_tf/configs/studies/positions.yaml"} <= experiments
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == modules | experiments


def test_the_wheel_brings_the_command_and_the_licence(wheel):
    names = [name for name in wheel.namelist() if ".dist-info/" in name]
    (commands,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "mvit = mvit_tf.cli.main:console" in wheel.read(commands).decode()
    assert any(name.endswith("LICENSE") for name in names)


FIND = """
import mvit_tf
from mvit_tf.cli.configs import find_config
print(mvit_tf.__file__)
for name in ("demo", "finetune", "kinetics400_mvit_b_16x4.yaml"):
    print(find_config(name))
"""


def test_an_installed_copy_finds_its_experiments_by_name(wheel, tmp_path):
    site = tmp_path / "site"
    wheel.extractall(site)
    ended = subprocess.run(
        [sys.executable, "-c", FIND],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    package = site / "mvit_tf"
    assert ended.stdout.splitlines() == [
        str(package / "__init__.py"),
        str(package / "configs/demo.yaml"),
        str(package / "configs/finetune.yaml"),
        str(package / "configs/kinetics400_mvit_b_16x4.yaml"),
    ]
