"""What became of every tensor and every variable of a conversion."""

import collections
import dataclasses


@dataclasses.dataclass(frozen=True)
class Placement:
    """One variable of the model.

    Attributes:
        path: of the variable.
        names: names of the source tensors that it was made of; none for a fresh one.
        action: "copied", "resized", "inflated", "zero" or "fresh" (left at its initial value).
        detail: shapes before and after, or the reason; "" for a plain copy.
    """

    path: str
    names: tuple[str, ...]
    action: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ConversionReport:
    """What `load_pytorch_weights` did; printing it gives a summary, `table()` everything.

    Attributes:
        source: path of the file, or "state dict".
        layout: whose names the source has: "slowfast", "torchvision", "pytorchvideo", "timm" or
            "mvit".
        placements: tuple of Placement, one for every variable of the model, in its order.
        unused: names of source tensors left out on purpose (those of a replaced head).
        beside: names of tensors beside the model, under another prefix: a loss's, say.
    """

    source: str
    layout: str
    placements: tuple[Placement, ...]
    unused: tuple[str, ...]
    beside: tuple[str, ...] = ()

    @property
    def fresh(self):
        """Paths of the variables that kept their initial values."""
        return self._paths("fresh")

    @property
    def resized(self):
        """Paths of the tables interpolated to another size."""
        return self._paths("resized")

    @property
    def inflated(self):
        """Paths of image kernels and positions stretched over time, zero tables included."""
        return self._paths("inflated", "zero")

    def _paths(self, *actions):
        return tuple(entry.path for entry in self.placements if entry.action in actions)

    def __str__(self):
        counts = collections.Counter(entry.action for entry in self.placements)
        lines = [
            f"{self.source} ({self.layout} layout): {len(self.placements)} variables, "
            + ", ".join(f"{count} {action}" for action, count in counts.items())
        ]
        notable = [entry for entry in self.placements if entry.action != "copied"]
        lines += [f"  {entry.action:8} {entry.path}  {entry.detail}".rstrip() for entry in notable]
        lines += [f"  left out {name}" for name in self.unused]
        lines += [f"  unused, beside the model: {name}" for name in self.beside]
        return "\n".join(lines)

    __repr__ = __str__

    def table(self):
        """One line a variable: what happened, the path, and where it came from."""
        width = max(len(entry.path) for entry in self.placements)
        lines = []
        for entry in self.placements:
            origin = " + ".join(entry.names) or "-"
            detail = f"  ({entry.detail})" if entry.detail else ""
            lines.append(f"{entry.action:8} {entry.path:{width}}  {origin}{detail}")
        return "\n".join(lines)
