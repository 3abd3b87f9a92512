"""The depot controller: from facts to amps."""
