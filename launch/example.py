"""tieflow from Python: ``python -m tieflow.launch.example`` writes ieee13.h5, a result, and ieee13.png, a plot."""

import tieflow


def main() -> None:
    # Ten hours of the IEEE 13 bus feeder in its four areas; energy is dear in the last.
    case = tieflow.load("ieee13", periods=10)
    case = tieflow.with_batteries(
        case,
        # A new one between two phases of bus 646; the one at bus 675 with twice its energy.
        tieflow.Battery(bus="646", phases="2-3", p_rated_kw=60, s_rated_kva=80, energy_kwh=240),
        tieflow.Battery(bus="675", p_rated_kw=200, s_rated_kva=240, energy_kwh=1600),
    )
    # Under mpirun: solve(case, comm=MPI.COMM_WORLD) on every rank. All but rank 0 get None.
    result = tieflow.solve(case)
    assert result is not None and result.check is not None
    print(result)  # a line; a notebook shows verdict, key figures and a picture
    print(f"{result.cost:.2f} $, converged: {result.converged}, confirmed by OpenDSS: {result.check.passed}")

    voltage = result.state.v_pu  # a NumPy array, (node, period)
    print(f"voltages from {voltage.min():.4f} to {voltage.max():.4f} pu")
    print(tieflow.table(result, "batteries")["energy_kwh"].round(1))

    # Key performance indicators, as `tieflow kpis` has them; against another run; and methods side by side.
    lowest = tieflow.kpis(result).lowest_voltage_pu
    print(f"lowest voltage {lowest.value:.4f} pu at {lowest.place} at {lowest.time}")
    shipped = tieflow.solve(tieflow.load("ieee13", periods=10))
    assert shipped is not None
    cost = tieflow.compare(shipped, result).kpis["energy_cost"]
    print(f"energy cost {cost.a:.2f} $ with the batteries as shipped, {cost.b:.2f} $ with these")
    for row in tieflow.benchmark(case, ["newton", "enapp"]) or []:
        print(f"{row['method']:<12}{row['cost']:.2f} $ in {row['rounds']} rounds")

    tieflow.save(result, "ieee13.h5")
    tieflow.plot(tieflow.read("ieee13.h5"), "schedule").savefig("ieee13.png")


if __name__ == "__main__":
    main()
