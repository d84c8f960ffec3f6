"""A hospital that is killed at any turn of its threads loses nothing that it acknowledged, nor its grid."""

from __future__ import annotations

from typing import Final

import pytest

from .test_stepping import WORLD, stepped

_KILLED: Final = """
    import threading

    play = '''
    grid alpha beta gamma
    copies 2
    send alpha CT-1x3
    level
    kept

    send alpha MR-1x6
    send beta CR-1x4

    crash {victim}

    start {victim}
    send alpha MR-1x6
    send beta CR-1x4
    level
    kept
    digests
    check alpha
    check beta
    check ALPHA_GRID
    check BETA_GRID
    check GAMMA_GRID
    '''
    before, sends, (crash,), after = split(parse(play, "play"))
    for point in {points}:
        with Stage(1, Actor) as stage:
            do(stage, before)
            senders = [threading.Thread(target=stage.act, args=(send,)) for send in sends]
            for each in senders:
                each.start()
            until = stepper.steps + point
            while stepper.steps < until:
                stepper.step() or stepper.run(0.01)
            stage.act(crash)
            for each in senders:
                each.join()
            print(point, *do(stage, after)[-8:], sep="; ")
"""
_SPLIT: Final = """
def split(scenes):
    commands = [command for scene in scenes for command in scene.commands]
    ends = [0, 5, 7, 8, len(commands)]
    return [commands[first:last] for first, last in zip(ends, ends[1:])]

def do(stage, commands):
    return [line for command in commands for line in stage.act(command)]

"""
_UNHARMED: Final = (
    "alpha, beta and gamma find the same 3 studies",
    "each of 3 studies is at 2 sites",
    "alpha, beta and gamma hold each other's catalogs with equal digests",
    "alpha has lost nothing that it took",
    "beta has lost nothing that it took",
    "ALPHA_GRID gives all that was taken anywhere",
    "BETA_GRID gives all that was taken anywhere",
    "GAMMA_GRID gives all that was taken anywhere",
)


def told_of(victim: str, points: list[int], turns: int) -> None:
    """Kill a hospital in the middle of what it takes and copies, at each point, and look what is left."""
    said = stepped(_KILLED.format(victim=victim, points=points), begin=WORLD + _SPLIT, seed=turns)
    assert said.splitlines() == ["; ".join((str(point), *_UNHARMED)) for point in points]


@pytest.mark.parametrize("victim", ["alpha", "beta"])
def test_a_hospital_killed_while_it_takes_or_copies_loses_nothing(victim: str) -> None:
    told_of(victim, [60, 480], turns=3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("turns", range(20, 24))
@pytest.mark.parametrize("victim", ["alpha", "beta"])
def test_a_hospital_killed_at_any_turn_loses_nothing(victim: str, turns: int) -> None:
    told_of(victim, [*range(turns % 7, 140, 7), *range(140 + turns, 1400, 90)], turns)
