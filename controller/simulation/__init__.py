"""`depot simulate`: the same core, planner and dispatch on past or planned sessions, in virtual time, without a socket."""
