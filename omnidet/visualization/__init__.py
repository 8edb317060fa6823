"""Pictures of what is in images: found, or annotated."""

from omnidet.visualization.colors import color_of, default_palette
from omnidet.visualization.draw import draw, draw_truth
from omnidet.visualization.sheet import contact_sheet
from omnidet.visualization.write import write_jpg

__all__ = ['color_of', 'contact_sheet', 'default_palette', 'draw', 'draw_truth', 'write_jpg']
