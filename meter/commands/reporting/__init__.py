"""Parts of `report`: what is asked of its rows, and what is said beside them."""
