"""Semi-real radiographs: projections of a real chest CT from the front, with exact landmarks T1 to L2.

One patient in any number of poses, straight as in the CT or with a scoliosis made by warping. L3, L4 and L5 are not
whole in the CT and are NaN. It is material for tests and demonstrations, never for training, and says little about
other patients. Source: specification, section 7.5.

Example:
    >>> from workbench.data.drr import Pose, project, projections
    >>> film = project(Pose(rotation=5))
    >>> [drr.curve for drr in projections(3)]
"""

from workbench.data.drr.film import Film, draw_film
from workbench.data.drr.views import Drr, Pose, draw_pose, project, projections

__all__ = ["Drr", "Film", "Pose", "draw_film", "draw_pose", "project", "projections"]
