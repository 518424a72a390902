"""Who answers: choosing a backend, failing over to the next."""
