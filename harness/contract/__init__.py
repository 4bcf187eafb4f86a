"""The contract: clauses as declarations, and the checks that judge a run by them."""
