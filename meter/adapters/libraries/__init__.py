"""Libraries whose packages import more than the app uses, imported in part."""
