"""stub"""
from harness.lab.search.finder import HEAL
from harness.kernel.plan import Plan
CASES = ((HEAL, Plan()),)
