"""The random numbers of a job: seeds made of names, for every generator that code draws from."""

from dfa_core.seeding.derive import derive
from dfa_core.seeding.draws import Draws
from dfa_core.seeding.generators import draw_from, drawing_from, restored_once
from dfa_core.seeding.known_code import draws_of

__all__ = ["Draws", "derive", "draw_from", "drawing_from", "draws_of", "restored_once"]
