"""OCPP: the local central system. `server` is the way in; `station` the session; `words` what a version must be able to
say, `versions` which there are: `v16`, `profiles`, `v16_setup` for 1.6; `v2`, `v2_transactions`, `v2_orders`, `v2_setup`
for 2.0.1 and 2.1.

Source: OCPP 1.6 edition 2, OCPP-J 1.6 and its security extension; OCPP 2.0.1 edition 3 and 2.1, parts 2 and 4. What real
stations do differently is in the modules.
"""
