"""The conditioning contract: how feedback is asked for, levelled and put in front of documents."""
