"""The tuner on a GPU: TensorRT's engines, the GPU's own clock, and finalists measured in turns."""

import pytest
from helpers_gpu import DATA
from models import FASHION_CNN

import workbench as wb
from workbench.tuning import Budget, Data, Goals, Limit, Space, Tuned, tune

pytestmark = pytest.mark.gpu
SPACE = Space(("tensorrt",), ("fp16", "fp32", "int8"), ("entropy",), in_float=(0, 2), cuda_graph=(True, False))
GOALS = Goals(("latency", "accuracy", "memory"), (Limit("accuracy", 2.0),), "top1")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("tuning")))
        data = Data(DATA / "fashion_mnist_test", calibrated=128, compared=500)
        return tune(wb.load_model(FASHION_CNN), SPACE, GOALS, data, budget=Budget(8))


def test_every_precision_is_tried_on_the_gpu_and_the_column_is_its_name(found: Tuned) -> None:
    assert {trial.candidate.precision for trial in found.trials} == {"fp16", "fp32", "int8"}
    (column,) = found.columns
    assert column.name == f"{wb.this_machine().gpus[0].name}, TensorRT {wb.available()['tensorrt'].release}"
    assert not [trial.reason for trial in found.trials if trial.state == "failed"]


def test_the_finalists_are_measured_by_the_gpus_clock_and_the_best_is_no_slower_than_fp16_by_hand(
    found: Tuned,
) -> None:
    finals = found.columns[0].finals
    assert finals is not None and all(item.host_median for item in finals.measurements)
    assert finals.subject(finals.reference).precision == "fp16" and found.best is not None
    names = {trial: name for name, trial in found.columns[0].finalists.items()}
    assert finals.speedup(names[found.best.trial]).high >= 1


def test_a_cuda_graph_is_a_knob_that_shows(found: Tuned) -> None:
    plain = {trial.candidate.cuda_graph for trial in found.trials if trial.is_complete}
    assert True in plain
    assert all(trial.score.memory_bytes >= 0 for trial in found.trials if trial.score)
