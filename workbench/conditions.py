"""What the machine did while something was measured: clocks, throttling, power, other programs. Read, never set.

A Probe takes one Reading; Watch takes them between timed runs; `conditions_of` tells what they say. Processors: psutil,
/proc and /sys. NVIDIA's GPU: NVML, which comes with the driver, through nvidia-ml-py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from workbench.machine import usable_cores

GPU_THROTTLING = {
    0x0000000000000004: "its power limit (software power cap)",
    0x0000000000000008: "a hardware slowdown (heat or power)",
    0x0000000000000020: "heat (software thermal slowdown)",
    0x0000000000000040: "heat (hardware thermal slowdown)",
    0x0000000000000080: "the power supply (hardware power brake)",
}
"""Reasons for a lower clock, by NVML's bits (nvml.h, nvmlClocksEventReason...); idling is none of them."""
_EVERY_S = 0.1
_BUSY = 0.1
"""The share of the processors from which on other programs are worth a word."""


@dataclass(frozen=True)
class Reading:
    """One look at the machine; None where it does not tell.

    at_s: of a clock that only runs forward. busy_s, own_s: processor seconds of all programs and of this one with its
    children, since they began. held_back_s: for how long the container's quota has stopped its programs. heat_events:
    how often heat slowed a core. gpu_reasons: bits of GPU_THROTTLING. gpu_others: processes on the GPU but this one.
    """

    at_s: float
    busy_s: float | None = None
    own_s: float | None = None
    cpu_mhz: float | None = None
    held_back_s: float | None = None
    heat_events: int | None = None
    gpu_sm_mhz: int | None = None
    gpu_memory_mhz: int | None = None
    gpu_temperature_c: int | None = None
    gpu_power_w: float | None = None
    gpu_reasons: int | None = None
    gpu_others: int | None = None


Probe = Callable[[], Reading]


@dataclass(frozen=True)
class Spread:
    """The lowest, middle and highest reading."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Conditions:
    """What was seen during a measurement, over `readings` looks in `seconds`.

    throttling: sentences, empty when nothing held the machine back. other_load: processors that other programs kept
    busy, on average; None where nobody tells. setting: how the machine is set up, in words by topic: 'governor',
    'power limit', 'maximal SM clock', ...
    """

    seconds: float
    readings: int
    cpu_mhz: Spread | None = None
    gpu_sm_mhz: Spread | None = None
    gpu_memory_mhz: Spread | None = None
    gpu_temperature_c: Spread | None = None
    gpu_power_w: Spread | None = None
    throttling: tuple[str, ...] = ()
    other_load: float | None = None
    other_gpu_programs: int | None = None
    setting: Mapping[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the times less than they seem, in sentences."""
        found = list(self.throttling)
        if self.other_load is not None and self.other_load >= _BUSY:
            found.append(f"Other programs kept {self.other_load:.1f} processors busy meanwhile.")
        if self.other_gpu_programs:
            found.append(f"{self.other_gpu_programs} other programs were on the GPU.")
        return tuple(found)

    def __str__(self) -> str:
        """One line: clocks, power and heat, how it is set up."""
        clocks = (
            ("processor", self.cpu_mhz, "MHz"), ("SM", self.gpu_sm_mhz, "MHz"),
            ("GPU memory", self.gpu_memory_mhz, "MHz"),
            ("GPU", self.gpu_temperature_c, "°C"), ("GPU", self.gpu_power_w, "W"),
        )  # fmt: skip
        told = [f"{name} {_range(spread)} {unit}" for name, spread, unit in clocks if spread is not None]
        return "; ".join([*told, *(f"{name} {value}" for name, value in self.setting.items())])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def conditions_from_json(data: Mapping[str, Any]) -> Conditions:
    """The inverse of Conditions.to_json."""
    known = {item.name for item in fields(Conditions)}
    values = {name: value for name, value in data.items() if name in known}
    for name, value in values.items():
        if isinstance(value, Mapping) and value.keys() == {"low", "median", "high"}:
            values[name] = Spread(**value)
    return Conditions(**{**values, "throttling": tuple(values["throttling"])})


class Watch:
    """Takes a reading where `look` is called, ten a second at most; call it between timed runs, never within."""

    def __init__(self, probe: Probe | None = None, setting: Mapping[str, str] | None = None) -> None:
        """setting: default is this machine's, unless another probe than this machine's is given."""
        self._probe = probe or read_machine
        self.setting = setting if setting is not None else {} if probe else machine_setting()
        self.readings: list[Reading] = [self._probe()]

    def look(self) -> None:
        if time.monotonic() - self.readings[-1].at_s >= _EVERY_S or self._probe is not read_machine:
            self.readings.append(self._probe())

    def conditions(self) -> Conditions:
        """What was seen so far, with a last look."""
        self.readings.append(self._probe())
        return conditions_of(self.readings, self.setting)


def conditions_of(readings: Sequence[Reading], setting: Mapping[str, str]) -> Conditions:
    first, last = readings[0], readings[-1]
    seconds = last.at_s - first.at_s
    spreads = ("cpu_mhz", "gpu_sm_mhz", "gpu_memory_mhz", "gpu_temperature_c", "gpu_power_w")
    others = [item.gpu_others for item in readings if item.gpu_others is not None]
    return Conditions(
        seconds=seconds,
        readings=len(readings),
        **{name: _spread(readings, name) for name in spreads},
        throttling=_throttling(readings),
        other_load=_other_load(first, last),
        other_gpu_programs=max(others) if others else None,
        setting=setting,
    )


def _throttling(readings: Sequence[Reading]) -> tuple[str, ...]:
    found = []
    for bit, reason in GPU_THROTTLING.items():
        times = sum(bool((item.gpu_reasons or 0) & bit) for item in readings)
        if times:
            found.append(f"The GPU was slowed by {reason} in {times} of {len(readings)} readings.")
    held_back = _grown(readings, "held_back_s")
    if held_back > 0:
        found.append(f"The container's processor quota stopped its programs for {held_back:.2f} s.")
    if heat := _grown(readings, "heat_events"):
        found.append(f"Heat slowed a processor core {heat:.0f} times.")
    return tuple(found)


def _grown(readings: Sequence[Reading], name: str) -> float:
    values = [value for item in readings if (value := getattr(item, name)) is not None]
    return max(values[-1] - values[0], 0) if values else 0


def _other_load(first: Reading, last: Reading) -> float | None:
    seconds = last.at_s - first.at_s
    if None in (first.busy_s, first.own_s, last.busy_s, last.own_s) or seconds <= 0:
        return None
    busy, own = _grown((first, last), "busy_s"), _grown((first, last), "own_s")
    return max(busy - own, 0.0) / seconds


def _spread(readings: Sequence[Reading], name: str) -> Spread | None:
    values = [float(value) for item in readings if (value := getattr(item, name)) is not None]
    return Spread(min(values), median(values), max(values)) if values else None


def _range(spread: Spread) -> str:
    low, high = f"{spread.low:,.0f}", f"{spread.high:,.0f}"
    return low if low == high else f"{low} to {high}"


# ---- this machine


def read_machine() -> Reading:
    """The Probe of this machine; takes two milliseconds, and more where thousands of programs run."""
    return Reading(at_s=time.monotonic(), **_read_cpu(), **_read_gpu())


def _read_cpu() -> dict[str, Any]:
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    nested = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user and nice already
    clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "busy_s": sum(times) - idle - nested,
        "own_s": _own_s(),
        "cpu_mhz": clock.current if clock and clock.current else None,
        "held_back_s": _held_back_s(),
        "heat_events": _heat_events(),
    }


def _own_s() -> float:
    """Of this program, the programs that it started and runs, and those that have ended."""
    import psutil

    total, process = 0.0, psutil.Process()
    for item in (process, *process.children(recursive=True)):
        try:
            spent = item.cpu_times()
        except psutil.Error:  # it ended meanwhile
            continue
        ended = getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0)
        total += spent.user + spent.system + ended
    return total


def _held_back_s() -> float | None:
    path = Path("/sys/fs/cgroup/cpu.stat")
    rows = dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}
    return int(rows["throttled_usec"]) / 1e6 if "throttled_usec" in rows else None


def _heat_events() -> int | None:
    files = _heat_files()
    return sum(int(path.read_text()) for path in files) if files else None


@cache
def _heat_files() -> tuple[Path, ...]:
    return tuple(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))


def _read_gpu() -> dict[str, Any]:
    gpu = _gpu()
    if gpu is None:
        return {}
    nvml, device = gpu
    reasons = (
        getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    power = _asked(lambda: nvml.nvmlDeviceGetPowerUsage(device))
    running = _asked(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device))
    return {
        "gpu_sm_mhz": _asked(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
        "gpu_memory_mhz": _asked(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
        "gpu_temperature_c": _asked(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)),
        "gpu_power_w": None if power is None else power / 1000,
        "gpu_reasons": _asked(lambda: reasons(device)),
        "gpu_others": None if running is None else len({item.pid for item in running} - _own_programs()),
    }


def _own_programs() -> set[int]:
    """This process and those that it started: a build process that waits for work, a baseline in another Python."""
    import psutil

    own = psutil.Process()
    return {own.pid, *(item.pid for item in own.children(recursive=True))}


def machine_setting() -> dict[str, str]:
    """How this machine is set up, by topic, in words."""
    import psutil

    found = {"processors": str(usable_cores())}
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        found["governor"] = governor.read_text().strip()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None:
        found["power"] = "mains" if battery.power_plugged else "battery"
    return {**found, **_gpu_setting()}


def _gpu_setting() -> dict[str, str]:
    gpu = _gpu()
    if gpu is None:
        return {}
    nvml, device = gpu
    limit = _asked(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device))
    clock = _asked(lambda: nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_SM))
    persistence = _asked(lambda: nvml.nvmlDeviceGetPersistenceMode(device))
    words = {
        "driver": _asked(nvml.nvmlSystemGetDriverVersion),
        "power limit": None if limit is None else f"{limit / 1000:.0f} W",
        "maximal SM clock": None if clock is None else f"{clock} MHz",
        "persistence mode": None if persistence is None else "on" if persistence else "off",
    }
    return {name: value for name, value in words.items() if value is not None}


@cache
def _gpu() -> tuple[Any, Any] | None:
    """NVML and its handle of the first GPU that this process sees; None without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        if visible.startswith("GPU-"):
            return pynvml, pynvml.nvmlDeviceGetHandleByUUID(visible)
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(visible) if visible.isdigit() else 0)
    except pynvml.NVMLError:
        return None


def _asked(question: Callable[[], Any]) -> Any:
    """None for what this GPU does not tell: many laptops know no power, and virtual GPUs no clocks."""
    import pynvml

    try:
        return question()
    except pynvml.NVMLError:
        return None
