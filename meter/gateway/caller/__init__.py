"""The caller: access tokens and the keys that verify them."""
