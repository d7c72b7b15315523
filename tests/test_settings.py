"""Settings: read, overridden, and refused with the name of the key and of where it was set."""

from __future__ import annotations

from pathlib import Path

import h5py  # type: ignore[import-untyped]
import pytest

from tieflow.common.errors import CaseError
from tieflow.common.inputs.settings import Settings, parse_override, read_settings
from tieflow.common.results.store import load_fields, save_fields

MINIMAL = 'voltage_kv = 4.16\nsubstation_bus = "1"\n'


def case_toml(folder: Path, text: str) -> Path:
    path = folder / "case.toml"
    path.write_text(text)
    return path


def complaint(path: Path, **overrides: object) -> str:
    with pytest.raises(CaseError) as caught:
        read_settings(path, overrides)
    return str(caught.value)


def test_the_nominal_voltage_and_the_substation_are_all_that_a_case_must_say(tmp_path: Path) -> None:
    settings = read_settings(case_toml(tmp_path, MINIMAL), {})
    assert (settings.voltage_kv, settings.substation_bus) == (4.16, "1")
    for key in ("voltage_kv", "substation_bus"):
        rest = "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(key))
        path = case_toml(tmp_path, rest)
        assert complaint(path).startswith(f"{path}: {key}: missing")


def test_a_case_of_several_phases_needs_neither(tmp_path: Path) -> None:
    settings = read_settings(case_toml(tmp_path, 'model = "multiphase"\n'), {})
    assert (settings.model, settings.voltage_slack_price) == ("multiphase", 1000.0)
    assert read_settings(case_toml(tmp_path, MINIMAL), {}).model == "balanced"


@pytest.mark.parametrize("key", ["voltage_kv", "substation_bus"])
def test_a_balanced_case_says_what_it_lacks(tmp_path: Path, key: str) -> None:
    path = case_toml(tmp_path, "".join(line for line in MINIMAL.splitlines(True) if not line.startswith(key)))
    assert complaint(path) == f"{path}: {key}: missing. A balanced case needs it."
    assert complaint(path, model="balanced") == f"{path}: {key}: missing. A balanced case needs it."
    assert "has no meaning in a multi-phase case" in complaint(path, model="multiphase")


def test_a_nominal_voltage_of_zero_is_none_and_is_named_where_it_was_set(tmp_path: Path) -> None:
    assert complaint(case_toml(tmp_path, MINIMAL), voltage_kv=0.0).startswith("--set: voltage_kv: ")
    path = case_toml(tmp_path, MINIMAL.replace("4.16", "0.0"))
    assert complaint(path).startswith(f"{path}: voltage_kv: ")


def test_an_override_wins_over_the_file_and_may_be_text(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL + "v_min_pu = 0.97\nperiods = 5\n")
    settings = read_settings(path, {"v_min_pu": "1.007", "objective": "losses"})
    assert (settings.v_min_pu, settings.periods, settings.objective) == (1.007, 5, "losses")


def test_an_override_may_give_what_the_file_lacks(tmp_path: Path) -> None:
    path = case_toml(tmp_path, "voltage_kv = 4.16\n")
    assert read_settings(path, {"substation_bus": "149"}).substation_bus == "149"


def test_an_unknown_key_in_the_file_names_the_file_and_suggests_the_nearest(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL + "v_min = 0.95\n")
    assert complaint(path) == f"{path}: unknown setting 'v_min'. Did you mean 'v_min_pu'?"


def test_an_unknown_key_like_no_other_lists_the_known(tmp_path: Path) -> None:
    message = complaint(case_toml(tmp_path, MINIMAL + "colour = 1\n"))
    assert "'colour'" in message
    assert all(key in message for key in Settings.model_fields)


def test_an_unknown_override_names_set_and_suggests_the_nearest(tmp_path: Path) -> None:
    message = complaint(case_toml(tmp_path, MINIMAL), bateries_percent=10)
    assert message == "--set: unknown setting 'bateries_percent'. Did you mean 'battery_percent'?"


def test_a_section_of_the_file_is_an_unknown_key(tmp_path: Path) -> None:
    assert "unknown setting 'prices'" in complaint(case_toml(tmp_path, MINIMAL + "[prices]\nlow = 1\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "case.toml") in complaint(tmp_path / "case.toml")


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL + "periods = five\n")
    message = complaint(path)
    assert message.startswith(f"{path}: not valid TOML")
    assert "line 3" in message


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_bytes(b'title = "S\xfcd"\n')
    assert complaint(path).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("voltage_kv", -4.16),
        ("base_kva", "1 MVA"),
        ("substation_v_pu", 2401.8),
        ("v_min_pu", 95),
        ("v_min_pu", float("nan")),
        ("v_max_pu", float("inf")),
        ("periods", 0),
        ("periods", 2.5),
        ("dt_hours", 0),
        ("price_low_per_kwh", float("nan")),
        ("price_high_per_kwh", float("-inf")),
        ("export_price_per_kwh", float("nan")),
        ("substation_export_kw", -1),
        ("method", 1),
        ("price_high_share", 40),
        ("pv_percent", 101),
        ("battery_percent", -1),
        ("der_fraction", -0.3),
        ("pv_inverter_ratio", 0.9),
        ("battery_hours", 0),
        ("eta_charge", 0),
        ("eta_discharge", 1.05),
        ("soc_min", 30),
        ("substation_peak_kw", 0),
        ("switch_ohm", -1),
        ("objective", "cots"),
        ("model", "unbalanced"),
        ("voltage_slack_price", 0),
        ("capacitor_model", "constant_current"),
        ("substation_bus", 1),
    ],
)
def test_a_value_that_cannot_be_names_its_key_and_where_it_was_set(tmp_path: Path, key: str, value: object) -> None:
    path = case_toml(tmp_path, MINIMAL)
    assert complaint(path, **{key: value}).startswith(f"--set: {key}: must be ")
    written = {"voltage_kv": 4.16, "substation_bus": "1"} | {key: value}
    path = case_toml(tmp_path, "".join(f"{name} = {text!r}\n" for name, text in written.items()))
    message = complaint(path)
    assert message.startswith(f"{path}: {key}: must be ")
    assert f"(got {value!r})" in message


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"v_min_pu": 1.06}, ("v_min_pu = 1.06", "v_max_pu = 1.05")),
        ({"soc_min": 0.95}, ("soc_min = 0.95", "soc_max = 0.95")),
        ({"soc_initial": 0.1}, ("soc_initial = 0.1", "soc_min..soc_max")),
        ({"soc_initial": 0.99}, ("soc_initial = 0.99", "soc_min..soc_max")),
        ({"objective": "peak"}, ("objective = peak", "substation_peak_kw")),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(
    tmp_path: Path, overrides: dict[str, object], named: tuple[str, str]
) -> None:
    message = complaint(case_toml(tmp_path, MINIMAL), **overrides)
    assert all(words in message for words in named)


def test_a_balanced_case_is_solved_by_admm_and_one_of_several_phases_by_newton_unless_it_says_otherwise(
    tmp_path: Path,
) -> None:
    path = case_toml(tmp_path, MINIMAL)
    assert read_settings(path, {}).method is None
    assert read_settings(path, {}).default_method == "admm"
    assert read_settings(path, {"method": "newton"}).default_method == "newton"
    path = case_toml(tmp_path, 'model = "multiphase"\n')
    assert read_settings(path, {}).default_method == "newton"
    path = case_toml(tmp_path, 'model = "multiphase"\nmethod = "dlmp"\n')
    assert read_settings(path, {}).default_method == "dlmp"


def test_a_price_may_be_negative(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL + "price_low_per_kwh = -0.1\nprice_high_per_kwh = -0.05\n")
    settings = read_settings(path, {"export_price_per_kwh": "-0.2"})
    prices = settings.price_low_per_kwh, settings.price_high_per_kwh, settings.export_price_per_kwh
    assert prices == (-0.1, -0.05, -0.2)


def test_export_is_free_unless_a_case_limits_it(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL)
    assert (read_settings(path, {}).substation_export_kw, read_settings(path, {}).export_price_per_kwh) == (None, None)
    assert read_settings(path, {"substation_export_kw": "0"}).substation_export_kw == 0


def test_the_linear_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    refusal = (
        "model: must be 'balanced' or 'multiphase' (got 'lindist3'). The linear model is retired: set model = "
        "multiphase, the exact one."
    )
    path = case_toml(tmp_path, 'model = "lindist3"\n')
    assert complaint(path) == f"{path}: {refusal}"
    assert read_settings(path, {"model": "multiphase"}).model == "multiphase"
    path = case_toml(tmp_path, MINIMAL)
    assert complaint(path, model="lindist3") == f"--set: {refusal}"
    assert complaint(path, model="linear") == "--set: model: must be 'balanced' or 'multiphase' (got 'linear')."


def test_a_result_of_the_linear_model_can_still_be_read() -> None:
    stored = Settings.model_validate({"model": "lindist3", "periods": 2, "v_max_pu": 1.06})
    with h5py.File("settings", "w", driver="core", backing_store=False) as file:
        save_fields(file, Settings, stored)
        # Files of that time know nothing of these.
        for name in ("method", "export_price_per_kwh", "substation_export_kw"):
            del file.attrs[name]
        read = load_fields(file, Settings)
    assert read == stored
    assert (read.model, read.default_method) == ("lindist3", "newton")


def test_the_range_of_stored_energy_may_touch_where_the_batteries_start(tmp_path: Path) -> None:
    path = case_toml(tmp_path, MINIMAL)
    assert read_settings(path, {"soc_initial": 0.30}).soc_initial == 0.30
    assert read_settings(path, {"soc_initial": 0.95}).soc_initial == 0.95


def test_an_override_is_split_at_its_first_equals_sign() -> None:
    assert parse_override(" v_min_pu = 0.97") == ("v_min_pu", "0.97")
    assert parse_override("title=a=b") == ("title", "a=b")


@pytest.mark.parametrize("text", ["v_min_pu", "=0.97", "v_min_pu=", "v_min_pu= ", ""])
def test_an_override_that_is_no_pair_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(CaseError, match="key=value") as caught:
        parse_override(text)
    assert f"--set {text}" in str(caught.value)


def test_an_override_of_an_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(CaseError, match="Did you mean 'v_max_pu'"):
        parse_override("vmax_pu=1.05")


def test_toml_that_is_nested_too_deeply_is_one_line(tmp_path: Path) -> None:
    path = case_toml(tmp_path, f"{MINIMAL}title = {'[' * 9999}{']' * 9999}\n")
    assert complaint(path) == f"{path}: lists or tables nested too deeply. Remove brackets."
    path = case_toml(tmp_path, f"{MINIMAL}title{'.a' * 9999} = 1\n")
    assert complaint(path).startswith(f"{path}: title: must be a valid string (got {{'a': ")
    assert len(complaint(path)) < 300
