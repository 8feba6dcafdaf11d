"""Profiles: the bundled ones, overrides, and files of users."""

import tomllib
from pathlib import Path

import pytest
import spikeloop
from spikeloop.deploy.backend import OURS, backends
from spikeloop.deploy.twin import training_facts
from spikeloop.errors import ProfileError, SpikeloopError, UnknownNameError
from spikeloop.hardware_profiles import Profile, load_profile, parse_settings, profiles

TEMPLATE = Path(profiles()["nest-iaf_psc_delta"]).read_text(encoding="utf-8")


def profile_file(folder, *replacements):
    """A user's copy of a bundled profile, edited."""
    text = TEMPLATE.replace('name = "nest-iaf_psc_delta"', 'name = "mine"')
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- the bundled ones --------------------------------------------------------------------------------------------


def test_the_bundled_profiles_are_known():
    assert {"reference", "nest-exact", "nest-iaf_psc_delta", "nest-pp_psc_delta"} <= set(profiles())


@pytest.mark.parametrize("name", profiles())
def test_a_bundled_profile_loads_and_keeps_its_own_rules(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.target in OURS | backends()
    assert not profile.targets or set(profile.targets) <= set(OURS)
    assert profile.summary
    assert profile.source
    assert load_profile(profile) is profile
    assert load_profile(profiles()[name]) == profile
    # Nothing of the file is lost on the way.
    data = tomllib.loads(profiles()[name].read_text(encoding="utf-8"))
    dumped = profile.model_dump()
    for key, value in data.items():
        if isinstance(value, dict):
            assert {**dumped[key], **value} == dumped[key]
        else:
            assert dumped[key] == (tuple(value) if isinstance(value, list) else value)


def test_the_thesis_profiles_have_the_thesis_settings():
    for name in ("nest-iaf_psc_delta", "nest-pp_psc_delta"):
        profile = load_profile(name)
        assert profile.time.resolution_ms == 0.1
        assert profile.time.step_ms == 1.0
        assert profile.neuron.model == name.removeprefix("nest-")
        assert not profile.exact
        assert profile.departures
    assert load_profile("reference").exact
    assert load_profile("nest-exact").exact


# --- overrides ---------------------------------------------------------------------------------------------------


def test_settings_replace_what_they_name_and_nothing_else():
    before = load_profile("nest-iaf_psc_delta")
    profile = load_profile("nest-iaf_psc_delta", {"resolution_ms": "0.5", "t_ref": "2", "max_neurons": "12"})
    assert profile.settings() == {**before.settings(), "resolution_ms": 0.5, "t_ref": 2, "max_neurons": 12}
    assert before.time.resolution_ms == 0.1
    assert load_profile("nest-iaf_psc_delta", {}) == before


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("tau_m", "20", 20),
        ("tau_m", "1e3", 1000.0),
        ("tau_m", 20.5, 20.5),
        ("with_reset", "true", True),
        ("with_reset", True, True),
        ("model", "iaf_psc_delta", "iaf_psc_delta"),
        ("model", '"iaf_psc_delta"', "iaf_psc_delta"),
        ("max_synapses", "1_000", 1000),
    ],
)
def test_settings_are_read_as_toml(key, given, value):
    found = load_profile("nest-pp_psc_delta", {key: given}).settings()[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution_ms": "fast"}, r"time.resolution_ms: Input should be a valid number, not 'fast'"),
        ({"resolution_ms": "true"}, "time.resolution_ms: Input should be a valid number, not True"),
        ({"resolution_ms": "-1"}, "greater than or equal to 0.001, not -1"),
        ({"resolution_ms": "0"}, "greater than or equal to 0.001"),
        ({"resolution_ms": "nan"}, "finite number"),
        ({"resolution_ms": "inf"}, "finite number|less than or equal to 1000"),
        ({"resolution_ms": "0.3"}, "time: step_ms=1.0 is no multiple of resolution_ms=0.3"),
        ({"step_ms": "0.25"}, "step_ms=0.25 is no multiple of resolution_ms=0.1"),
        ({"delay_ms": "0.05"}, "delay_ms=0.05 is no multiple"),
        ({"input_delay_ms": "0.05"}, "input_delay_ms=0.05 is no multiple"),
        ({"delay_ms": "1e6"}, "less than or equal to 1000"),
        ({"max_neurons": "0"}, "greater than or equal to 1"),
        ({"max_neurons": "2.5"}, "valid integer"),
        ({"max_neurons": "true"}, "valid integer"),
        ({"reset": "never"}, "'subtract', 'zero' or 'none', not 'never'"),
        ({"model": "3"}, "valid string, not 3"),
        ({"tau_m": "long"}, r"tau_m=long was given; it must be a number, such as 10000000000.0"),
        ({"tau_m": "true"}, "tau_m=true was given; it must be a number"),
        ({"tau_m": "[1, 2]"}, "it must be a number"),
        ({"tau_m": "1970-01-01"}, "it must be a number"),
        ({"tau_m": "inf"}, "neuron.parameters.tau_m: must be a finite number"),
        ({"with_reset": "1"}, "with_reset=1 was given; it must be true or false"),
        ({"with_reset": "yes"}, "it must be true or false"),
    ],
)
def test_a_setting_of_another_type_or_out_of_bounds_is_refused(settings, message):
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile("nest-pp_psc_delta", settings)
    assert "nest-pp_psc_delta" in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_setting_lists_the_closest_ones():
    with pytest.raises(UnknownNameError, match=r"no setting 'tau'\. Did you mean tau_m\?.*'nest-iaf_psc_delta'"):
        load_profile("nest-iaf_psc_delta", {"tau": "3"})
    with pytest.raises(UnknownNameError, match=r"no setting 'colour'\. Known: .*delay_ms.*t_ref"):
        load_profile("nest-iaf_psc_delta", {"colour": "red"})
    # The exact recipes and the reference have no neurons to set.
    with pytest.raises(UnknownNameError, match=r"no setting 't_ref'\. Known: max_neurons, max_synapses\."):
        load_profile("nest-exact", {"t_ref": "1"})
    for name in ("parameters", "time", "name", "exact"):
        with pytest.raises(UnknownNameError):
            load_profile("nest-iaf_psc_delta", {name: "1"})


def test_assignments_of_a_command_line():
    assert parse_settings(["a=1", " b = x=y ", "a=2"]) == {"a": "2", "b": "x=y"}
    for word in ("a", "a=", "=1", "", " = "):
        with pytest.raises(ProfileError, match="of the form key=value"):
            parse_settings([word])


# --- contracts: one set of decisions, several targets ------------------------------------------------------------

LIVE = ("spinnaker-live", "spinnaker", "spinnaker-virtual", "spinnaker-twin")


def test_profiles_of_one_contract_differ_in_target_and_machine_alone():
    contract, *others = map(load_profile, LIVE)
    for profile in others:
        assert profile.contract == contract.name
        assert profile.target == profile.name
        assert profile.circuit == contract.circuit
        assert profile.departures == contract.departures
        assert training_facts(profile) == training_facts(contract)
    assert {load_profile("spinnaker").machine.version, contract.machine.version} == {3, 5}


@pytest.mark.parametrize("target", ["spinnaker", "spinnaker-virtual", "spinnaker-twin"])
def test_the_target_of_a_contract_can_be_set(target):
    profile = load_profile("spinnaker-live", {"target": target})
    assert profile.target == profile.settings()["target"] == target
    assert training_facts(profile) == training_facts(load_profile("spinnaker-live"))


def test_a_target_outside_of_the_contract_is_refused():
    with pytest.raises(ProfileError, match="target is 'nest'; it must be one of spinnaker, spinnaker-virtual, spinn"):
        load_profile("spinnaker-live", {"target": "nest"})
    with pytest.raises(UnknownNameError, match="no setting 'target'"):
        load_profile("nest-exact", {"target": "reference"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_bits": "1"}, "circuit.input_bits: Input should be greater than or equal to 2, not 1"),
        ({"input_bits": "13"}, "less than or equal to 12"),
        ({"hidden_shift": "9"}, "circuit.hidden_shift: .*less than or equal to 8"),
        ({"output_shift": "0.5"}, "circuit.output_shift: .*valid integer"),
        ({"timing": "fast"}, "machine.timing: Input should be 'lock-step' or 'free-running', not 'fast'"),
        ({"version": "4"}, "machine.version: Input should be 3 or 5, not 4"),
        ({"gate_steps": "16"}, "machine.gate_steps: .*less than or equal to 15"),
        ({"gate_steps": "0"}, "greater than or equal to 1"),
        ({"neurons_per_core": "65"}, "less than or equal to 64"),
        ({"circuits": "0"}, "greater than or equal to 1"),
        ({"resends": "-1"}, "greater than or equal to 0"),
        ({"udp_loss": "1"}, "machine.udp_loss: .*less than 1"),
        ({"machine_name": "3"}, "machine.machine_name: Input should be a valid string, not 3"),
    ],
)
def test_settings_of_machine_and_circuit_have_bounds(settings, message):
    with pytest.raises(ProfileError, match=message):
        load_profile("spinnaker-live", settings)


def test_a_machine_does_not_bear_on_a_decision_and_a_circuit_does():
    facts = training_facts(load_profile("spinnaker-live"))
    machine = {"timing": "free-running", "neurons_per_core": 4, "circuits": 3, "max_neurons": 12}
    assert training_facts(load_profile("spinnaker-live", machine)) == facts
    for circuit in ({"input_bits": 7}, {"hidden_shift": 3}, {"output_shift": 1}):
        assert training_facts(load_profile("spinnaker-live", circuit))["hash"] != facts["hash"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "spinnaker-live",
            '"decision_circuit"',
            '"reference"',
            r"mapping 'decision_circuit', and no other, needs .*circ",
        ),
        ("nest-exact", '"exact"', '"decision_circuit"', r"mapping 'decision_circuit', and no other, needs the table"),
        ("spinnaker-live", "exact = false", "exact = true", "mapping 'decision_circuit' is never exact"),
    ],
)
def test_a_circuits_table_goes_with_its_mapping(tmp_path, name, old, new, message):
    text = Path(profiles()[name]).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_a_users_file_can_extend_a_contract(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'schema_version = 1\nname = "mine"\ncontract = "spinnaker-live"\ntarget = "spinnaker"\n'
        '[machine]\nmachine_name = "10.11.194.1"\n',
        encoding="utf-8",
    )
    profile, contract = load_profile(path), load_profile("spinnaker-live")
    assert (profile.name, profile.target, profile.machine.machine_name) == ("mine", "spinnaker", "10.11.194.1")
    assert (profile.machine.version, profile.circuit) == (contract.machine.version, contract.circuit)
    assert training_facts(profile) == training_facts(contract)


# --- files of users ----------------------------------------------------------------------------------------------


def test_a_users_profile_is_used_by_path(make_network, tmp_path):
    path = profile_file(tmp_path, ("t_ref = 0.0", "t_ref = 3.0"))
    profile = load_profile(str(path), {"V_th": "2"})
    assert (profile.name, profile.settings()["t_ref"], profile.settings()["V_th"]) == ("mine", 3.0, 2)
    deployment = spikeloop.plan(make_network(), profile)
    assert deployment.population("layer 0").parameters["t_ref"] == 3.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "schema version 2; this Spikeloop reads up to 1: pip install -U"),
        ("schema_version = 1", 'schema_version = "1"', "schema_version: Input should be 1"),
        ("schema_version = 1", "schema_version = 0", "schema_version: Input should be 1, not 0"),
        ("schema_version = 1\n", "", "schema_version: Field required"),
        ("[time]", "[time", "is no valid TOML"),
        ('target = "nest"', 'target = "nest', "is no valid TOML"),
        ('target = "nest"', "target = 5", "target: Input should be a valid string, not 5"),
        ('target = "nest"', 'tarqet = "nest"', r"There is no key 'tarqet'\. Did you mean target or targets\?"),
        ("step_ms = 1.0", "stepms = 1.0", r"There is no key 'stepms'\. Did you mean step_ms\?"),
        ("[time]", "[tme]", r"There is no key 'tme'\. Did you mean time"),
        ("[neuron]\n", "[neuron]\nthreshold = 1\n", "There is no key 'threshold'"),
        ("[time]", "[limits]\nneurons = 1\n[time]", r"There is no key 'neurons'\. Did you mean max_neurons"),
        ('"point_neuron"', '"exact"', "mapping 'exact' chooses time and neurons itself: leave out"),
        (
            '"point_neuron"',
            '"magic"',
            "mapping: Input should be 'reference', 'exact', 'point_neuron', 'pynn' or 'decision_circuit', not 'magic'",
        ),
        ("resolution_ms = 0.1", "resolution_ms = 0.3", "step_ms=1.0 is no multiple of resolution_ms=0.3"),
        ("resolution_ms = 0.1", 'resolution_ms = "0.1"', "time.resolution_ms: Input should be a valid number"),
        ("exact = false", "exact = true", "never exact"),
        ("exact = false", 'exact = "no"', "exact: Input should be a valid boolean, not 'no'"),
        ('name = "mine"', 'name = "my profile"', "name: String should match"),
        ('reset = "zero"', 'reset = "half"', "neuron.reset"),
        ("tau_m = 1e10", "tau_m = [1.0]", "neuron.parameters.tau_m: must be a finite number, true or false, or text"),
        ("tau_m = 1e10", "tau_m = nan", "neuron.parameters.tau_m: must be a finite number"),
    ],
)
def test_a_file_that_is_no_profile_says_what_is_wrong(tmp_path, old, new, message):
    path = profile_file(tmp_path, (old, new))
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("exact", "departures"), [("true", '[{ kind = "leak", text = "a little" }]'), ("false", "[]")])
def test_either_exact_or_with_departures(tmp_path, exact, departures):
    text = Path(profiles()["nest-exact"]).read_text(encoding="utf-8").replace("exact = true", f"exact = {exact}")
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}departures = {departures}\n", encoding="utf-8")
    with pytest.raises(ProfileError, match="an exact profile lists no departures, and an approximate one lists"):
        load_profile(path)


def test_a_mapping_without_its_tables_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEMPLATE.split("[time]")[0], encoding="utf-8")
    with pytest.raises(ProfileError, match=r"mapping 'point_neuron' needs the tables \[time\] and \[neuron\]"):
        load_profile(path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a = 1\n" * 3, b"", b"[" * 100_000, b"a = " + b"[" * 100_000])
def test_bytes_that_are_no_profile_are_refused(tmp_path, data):
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(ProfileError, match=r"mine\.toml"):
        load_profile(path)


def test_an_unknown_profile_lists_the_closest_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"no profile or profile file 'nest-exat'\. Did you mean nest-exact"):
        load_profile("nest-exat")
    for name in ("mine.toml", "", str(tmp_path)):
        with pytest.raises(UnknownNameError, match="no profile or profile file"):
            load_profile(name)
    with pytest.raises(SpikeloopError):
        load_profile("a" * 5000)


def test_a_target_that_nobody_brings_is_unknown(make_network, tmp_path):
    profile = load_profile(profile_file(tmp_path, ('target = "nest"', 'target = "nets"')))
    with pytest.raises(UnknownNameError, match=r"no backend 'nets'\. Did you mean nest\?"):
        spikeloop.plan(make_network(), profile)


def test_a_profile_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_profile("reference").exact = False
    assert isinstance(load_profile("reference"), Profile)
