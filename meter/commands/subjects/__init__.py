"""`python -m meter subjects`: names, teams and cost centres of subjects. One module per kind of action."""
