"""cache.py: compiled programs are kept where the user can say."""

from rsrc_jax import cache


def test_what_the_user_has_set_stays(tmp_path):
  mine = {"XDG_CACHE_HOME": str(tmp_path)}
  cache.keep_programs(mine)
  assert mine["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "rsrc-jax" / "jax")
  theirs = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
  cache.keep_programs(theirs)
  assert theirs["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
