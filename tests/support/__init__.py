"""What tests of several tiers share: waiting, the state a test run starts from, looking for what a
test leaves.
"""
