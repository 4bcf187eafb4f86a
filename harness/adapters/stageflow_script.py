def render_script(*a): return None
