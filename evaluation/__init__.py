if __name__ == "evaluation":  # found as a folder of the checkout: its modules would be loaded a second time
    raise ImportError("the package evaluation is synthfm.evaluation now: from synthfm.evaluation import ...")
