"""Tasks and mixtures that ship with t5tune; a gin file names the modules it needs."""
