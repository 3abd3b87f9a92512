"""The dashboard: pictures of the controller in a terminal. Sees snapshots only; decides nothing about charging."""
