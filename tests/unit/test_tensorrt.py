"""The back end tensorrt without a GPU: what it says of machines, and what it refuses before anything is built."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import FASHION_CNN, save

from workbench import BuildConfig, Model, edit, load_model
from workbench.backends import default_backend, load, load_for_networks
from workbench.backends.tensorrt_config import resolve_network_on, resolve_on, support_on
from workbench.errors import BackendError, ConfigError
from workbench.machine import Gpu, Machine, this_machine
from workbench.types import BuilderOptions, Calibration, Support

H200, T4 = Gpu("NVIDIA H200", "9.0", 1 << 37), Gpu("Tesla T4", "7.5", 1 << 34)
QUANTIZED = """(float[4] x) => (float[4] y) {
    [q] q = QuantizeLinear(x, scale, zero) [dq] d = DequantizeLinear(q, scale, zero) [relu] y = Relu(d) }"""


def machine(*gpus: Gpu, cuda: str | None = "12.4") -> Machine:
    return Machine("cpu", 2, "Linux x86_64", "3.10.1", gpus, cuda)


def support(release: str = "8.6.0", gpu: Gpu = H200) -> Support:
    return support_on(machine(gpu), release, has_pycuda=True)


def resolved(model: Model, config: BuildConfig, release: str = "8.6.0", gpu: Gpu = H200) -> BuildConfig:
    return resolve_on(support(release, gpu), gpu, model, config)


def options(**wish: Any) -> BuildConfig:
    return BuildConfig(builder=BuilderOptions(**wish))


@pytest.fixture
def quantized(tmp_path: Path) -> Model:
    return load_model(save(tmp_path / "net.onnx", QUANTIZED, scale=np.float32(0.1), zero=np.int8(0)))


# ---- what a machine can do


def test_this_machine_gets_a_sentence_and_another_back_end() -> None:
    here = load("tensorrt").support()
    if not this_machine().gpus:
        assert not here.can_build and not here.can_run
        assert "no NVIDIA GPU was found" in here.build_reason and "rtx" in here.build_reason
        assert default_backend() != "tensorrt"
        with pytest.raises(BackendError, match="no NVIDIA GPU"):
            load("tensorrt").resolve(load_model(FASHION_CNN), BuildConfig())
    else:
        assert here.release is None or here.can_build


@pytest.mark.parametrize(
    ("gpus", "release", "pycuda", "build", "run"),
    [
        ((H200,), "8.6.0", True, "", ""),
        ((H200,), "8.6.0", False, "", "PyCUDA is not installed: make gpu"),
        ((H200,), None, True, "not installed: make gpu", "not installed"),
        ((H200,), "8.5.3", True, "8.5.3 is too old", "too old"),
        ((), "8.6.0", True, "shows no GPU", "shows no GPU"),
    ],
    ids=["all there", "no PyCUDA", "no TensorRT", "too old", "no GPU"],
)
def test_what_lacks_is_told_with_what_adds_it(
    gpus: tuple[Gpu, ...], release: str | None, pycuda: bool, build: str, run: str
) -> None:
    here = support_on(machine(*gpus), release, has_pycuda=pycuda)
    assert (here.can_build, here.can_run) == (not build, not run)
    assert build in here.build_reason and run in here.run_reason


@pytest.mark.parametrize(
    ("release", "lacking"),
    [("8.6.0", {"bf16"}), ("8.6.1.post1", {"bf16"}), ("10.16.1.11", set()), ("11.4.0", set())],
)
def test_every_precision_is_fulfilled_or_has_a_reason(release: str, lacking: set[str]) -> None:
    here = support(release)
    assert set(here.precision_reasons or {}) == lacking
    assert set(here.precisions) | lacking == {"fp32", "tf32", "fp16", "bf16", "int8"}


def test_turing_has_no_bf16(fashion_cnn: Model) -> None:
    with pytest.raises(ConfigError, match=r"Tesla T4 .* has no bf16"):
        resolved(fashion_cnn, BuildConfig("bf16"), "10.16.1", T4)


def test_it_takes_described_networks() -> None:
    assert load_for_networks("tensorrt") is load("tensorrt")
    config = resolve_network_on(support(), H200, BuildConfig(workspace_bytes=1 << 20))
    assert config.targets == ("gpu",)


# ---- what will be built


def test_defaults_are_filled_in_and_what_has_no_effect_is_dropped(fashion_cnn: Model) -> None:
    config = resolved(fashion_cnn, BuildConfig(keep_io_types=False))
    assert (config.targets, config.keep_io_types, len(config.profiles)) == (("gpu",), True, 1)
    assert resolved(fashion_cnn, BuildConfig("fp16", keep_io_types=False)).keep_io_types is False
    assert resolved(edit(fashion_cnn, "batch=2"), BuildConfig()).profiles == ()


@pytest.mark.parametrize(
    ("config", "release", "says"),
    [
        (BuildConfig(targets=("sm89",)), "8.6.0", "no target 'sm89'; choose among gpu, ampere+"),
        (BuildConfig(targets=("same-cc",)), "8.6.0", "no target 'same-cc'"),
        (BuildConfig(targets=("gpu", "ampere+")), "8.6.0", "builds for one target"),
        (BuildConfig("bf16"), "8.6.0", "cannot build bf16: TensorRT has bf16 from release 9 on"),
        (BuildConfig("int8"), "11.4.0", "give a calibration, that is a collection, a table or samples"),
        (BuildConfig("int8"), "8.6.0", "give a calibration, that is a collection, a table or samples"),
        (BuildConfig(calibration=Calibration("x")), "8.6.0", "calibration serves int8 only, and the precision is fp32"),
        (BuildConfig(workspace_bytes=0), "8.6.0", "a workspace of 0 bytes does not exist"),
        (options(strip_weights=True), "8.6.0", "tensorrt 8.6.0 has no use for the builder option strip_weights"),
        (options(optimization_level=6), "8.6.0", "no optimization level 6; choose 0 to 5"),
        (options(tactic_sources=("cublas",)), "11.4.0", "no tactic source 'cublas'; choose among edge_mask"),
        (options(memory_pools={"workspace": 1}), "8.6.0", "no memory pool 'workspace'"),
        (options(memory_pools={"tactic_dram": -1}), "8.6.0", "a tactic_dram of -1 bytes does not exist"),
        (options(dla_core=0), "8.6.0", "a DLA computes in fp16 or int8, not in fp32"),
        (options(dla_core=-1), "8.6.0", "no DLA core -1"),
        (options(layer_precisions={"/features/0/Conv": "fp32"}), "8.6.0", "has no node"),
        (options(layer_precisions={"/classifier/Gemm": "int8"}), "8.6.0", "while the whole is fp32: choose fp32 or"),
        (options(layer_precisions={"/classifier/Gemm": "fp16"}), "11.4.0", "in fp16 while the whole is fp32"),
    ],
    ids=lambda item: item if isinstance(item, str) and " " in item else "",
)  # fmt: skip
def test_what_it_cannot_fulfil_is_refused_before_building(
    fashion_cnn: Model, config: BuildConfig, release: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(fashion_cnn, config, release)
    assert says in str(caught.value)


def test_ampere_and_later_cannot_be_built_for_on_turing(fashion_cnn: Model) -> None:
    with pytest.raises(ConfigError, match="Tesla T4 is older than Ampere"):
        resolved(fashion_cnn, BuildConfig(targets=("ampere+",)), gpu=T4)


def test_a_misspelt_node_gets_a_proposal(fashion_cnn: Model) -> None:
    with pytest.raises(ConfigError, match="did you mean '/classifier/Gemm'"):
        resolved(fashion_cnn, options(layer_precisions={"/clasifier/Gemm": "fp32"}))


@pytest.mark.parametrize("back_end", ["rtx", "onnxruntime"])
def test_the_other_back_ends_ignore_no_option(fashion_cnn: Model, back_end: str) -> None:
    with pytest.raises(ConfigError, match=f"{back_end} .* has no use for the builder option refittable"):
        load(back_end).resolve(fashion_cnn, options(refittable=True))


# ---- int8


def test_a_model_with_its_own_ranges_is_int8_without_calibration(quantized: Model) -> None:
    assert resolved(quantized, BuildConfig("int8")).calibration is None
    with pytest.raises(ConfigError, match="brings its ranges along"):
        resolved(quantized, BuildConfig("int8", calibration=Calibration("any")))


def int8(path: Path, algorithm: str = "entropy") -> BuildConfig:
    return BuildConfig("int8", calibration=Calibration(str(path), algorithm))


def test_a_table_tells_its_own_algorithm_and_its_whole_path_is_kept(
    fashion_cnn: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table").write_text("TRT-8600-MinMaxCalibration\nimage: 3c010a14\n")
    monkeypatch.chdir(tmp_path)
    assert resolved(fashion_cnn, int8(Path("table"))).calibration == Calibration(str(tmp_path / "table"), "minmax")


def test_samples_that_fit_are_taken(fashion_cnn: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", image=np.zeros((10, 1, 28, 28), np.float32))
    config = int8(tmp_path / "samples.npz", "legacy")
    assert resolved(fashion_cnn, config).calibration == config.calibration


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"other": np.zeros((8, 1, 28, 28))}, "samples of the input image are missing"),
        ({"image": np.zeros((8, 1, 28, 29))}, "calibration wants samples like"),
        ({"image": np.zeros((8, 28, 28))}, "calibration wants samples like"),
        ({"image": np.zeros((3, 1, 28, 28))}, "holds 3 samples; one batch takes 4"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    fashion_cnn: Model, tmp_path: Path, arrays: dict[str, np.ndarray], says: str
) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)
    with pytest.raises(ConfigError, match=says):
        resolved(edit(fashion_cnn, "batch=4"), int8(tmp_path / "samples.npz"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"TRT-8600-EntropyCalibration2\nother: 3c010a14\n", "wrong model: none of its tensors"),
        (b"nothing", "not a calibration table"),
        (None, "cannot be read"),
    ],
)
def test_a_calibration_that_is_none_is_refused(
    fashion_cnn: Model, tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        resolved(fashion_cnn, int8(tmp_path / "file"))


def test_an_unknown_calibrator_is_refused(fashion_cnn: Model) -> None:
    with pytest.raises(ConfigError, match="no calibrator 'best'; choose one of entropy, minmax, percentile"):
        resolved(fashion_cnn, int8(Path("any"), "best"))


@pytest.mark.parametrize(("release", "algorithm"), [("8.6.0", "mse"), ("11.4.0", "entropy")])
def test_where_tensorrt_has_no_such_calibrator_samples_are_collected(
    fashion_cnn: Model, tmp_path: Path, release: str, algorithm: str
) -> None:
    np.savez(tmp_path / "samples.npz", image=np.zeros((3, 1, 28, 28), np.float32))
    config = int8(tmp_path / "samples.npz", algorithm)
    assert resolved(fashion_cnn, config, release).calibration == config.calibration


def test_tensorrts_own_calibrator_is_refused_where_there_is_none(fashion_cnn: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", image=np.zeros((3, 1, 28, 28), np.float32))
    with pytest.raises(ConfigError, match="legacy is TensorRT's own calibrator, up to release 10"):
        resolved(fashion_cnn, int8(tmp_path / "samples.npz", "legacy"), "11.4.0")


def test_a_release_without_calibrators_takes_a_quantized_model_as_it_is(quantized: Model) -> None:
    assert resolved(quantized, BuildConfig("int8"), "11.4.0").calibration is None
    assert resolved(quantized, BuildConfig(), "11.4.0") == replace(BuildConfig(), targets=("gpu",))
