"""From matplotlib's SVG to one that lives in a page: its colours, its names, its words.

Plots are drawn in stand-in colours, which become CSS variables here: so one drawing suits light
and dark. Without a page around it (as an image) it gets the light colours and a ground.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"

# the name of the CSS variable, the colour it has in a light page
PALETTE = {
    "ink": "#1d2430",
    "muted": "#55606f",
    "grid": "#d5dae1",
    "safe": "#0b6b3a",
    "crash": "#b3261e",
    "lost": "#8a5300",
    "void": "#6b3fa0",
    "accent": "#1f5fa8",
    "paper": "#ffffff",
}
STAND_IN = {name: f"#0102{number + 1:02x}" for number, name in enumerate(PALETTE)}
"""What to draw in; no other drawing uses such colours."""

_FONT = re.compile(r"font-family:[^;]*(;|$)|(?<=font: )([\d.]+px) [^;]*")


def for_page(drawing: str, prefix: str, title: str, description: str) -> str:
    """An inline SVG element: names of its own, colours from the page, text alternatives."""
    root = _tree(drawing, prefix, {name: f"var(--{name})" for name in PALETTE})
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc"}
    for tag, text, place in (("title", title, 0), ("desc", description, 1)):
        element = ET.Element(tag, {"id": f"{prefix}-{tag}"})
        element.text = text
        root.insert(place, element)
    for gone in ("width", "height"):
        root.attrib.pop(gone, None)
    return ET.tostring(root, encoding="unicode")


def for_image(drawing: str, title: str) -> str:
    """A file of its own, in light colours."""
    root = _tree(drawing, "plot", PALETTE)
    root.attrib["xmlns"] = SVG.strip("{}")
    root.attrib["style"] = "font-family: sans-serif"
    element = ET.Element("title")
    element.text = title
    root.insert(0, element)
    ground = {"width": "100%", "height": "100%", "fill": PALETTE["paper"]}
    root.insert(1, ET.Element("rect", ground))
    return ET.tostring(root, encoding="unicode")


def _tree(drawing: str, prefix: str, colours: dict[str, str]) -> ET.Element:
    """The drawing without name spaces and metadata, every id begun with ``prefix``."""
    root = ET.fromstring(drawing)  # noqa: S314 - matplotlib wrote it a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.attrib[key.removeprefix(XLINK)] = _value(key, value, prefix, colours)
    root.attrib.pop("version", None)
    return root


def _value(key: str, value: str, prefix: str, colours: dict[str, str]) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    value = value.replace("url(#", f"url(#{prefix}-")
    if key.endswith("href"):
        return value.replace("#", f"#{prefix}-", 1)
    if key in {"style", "fill", "stroke"}:
        value = _FONT.sub(lambda match: f"{match[2]} sans-serif" if match[2] else "", value)
        for name, stand_in in STAND_IN.items():
            value = value.replace(stand_in, colours[name])
    return value
