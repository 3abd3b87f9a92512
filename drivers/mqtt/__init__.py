"""The depot on a customer's MQTT broker: what it looks like, as JSON, and for Home Assistant; orders where allowed."""
