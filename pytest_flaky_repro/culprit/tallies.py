"""What was seen of each subset so far: the search's whole memory."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Trials that teach something, of one image."""

    survived: int = 0
    crashed: int = 0

    @property
    def trials(self) -> int:
        return self.survived + self.crashed


@dataclass
class Tallies:
    """Counts of all images, and which subsets (masks) each was built from.

    Subsets with the same image share its trials. A subset whose build came out differently the
    second time has both images' trials. What was seen in which order does not matter.
    """

    images: dict[str, Tally] = field(default_factory=dict)
    masks: dict[str, list[int]] = field(default_factory=dict)  # of each image
    built: dict[int, list[str]] = field(default_factory=dict)  # images of each mask
    skipped: dict[int, str] = field(default_factory=dict)
    brought: dict[int, int] = field(default_factory=dict)  # bad in a mask's build besides: a mask
    growth: int = 0  # of everything but the counts: until it changes, what they belong to holds

    def of(self, mask: int) -> Tally:
        """The trials of a subset."""
        names = self.built.get(mask, ())
        if len(names) == 1:
            return self.images[names[0]]
        found = [self.images[name] for name in names]
        return Tally(sum(t.survived for t in found), sum(t.crashed for t in found))

    def build(self, mask: int, image: str, brought: int = 0) -> None:
        if brought:
            self.brought[mask] = brought
        self.images.setdefault(image, Tally())
        masks = self.masks.setdefault(image, [])
        if mask not in masks:
            self.growth += 1
            masks.append(mask)
            self.built.setdefault(mask, []).append(image)

    def skip(self, mask: int, reason: str) -> None:
        if mask not in self.skipped:
            self.growth += 1
            self.skipped[mask] = reason

    def survive(self, image: str, times: int = 1) -> None:
        self.images[image].survived += times

    def crash(self, image: str, times: int = 1) -> None:
        self.images[image].crashed += times
