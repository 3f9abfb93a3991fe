"""Code that the tests share. SprintEnv puts tests/ on the path of the programs that tests start."""
