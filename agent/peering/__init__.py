"""All connections between agents, dialled and accepted: for questions, reports and bodies."""
