if __name__ == "trainer":  # found as a folder of the checkout: its modules would be loaded a second time
    raise ImportError("the package trainer is synthfm.trainer now: from synthfm.trainer import ...")
