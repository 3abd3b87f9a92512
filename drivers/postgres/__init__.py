"""PostgreSQL: the sessions of a depot in a database of the customer."""
