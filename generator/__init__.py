if __name__ == "generator":  # found as a folder of the checkout: its modules would be loaded a second time
    raise ImportError("the package generator is synthfm.generator now: from synthfm.generator import ...")
