"""The commands about closed months."""
