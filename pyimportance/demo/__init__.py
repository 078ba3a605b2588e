"""`pyimportance demo`: the main job on real images, beside vanilla runs that are really run.

config.py    DemoConfig: what to run
digits.py    scikit-learn's handwritten digits as WebDataset tars
source.py    the training and test samples of a folder of tars, their labels and image size
images.py    image bytes -> batches of pixels, each image decoded once per process
model.py     a small convolutional network
policies.py  the ways to read the data that the runs compare
training.py  one run: an ordinary data-parallel training loop, and its evaluation
rank.py      the program of one training process, which does every run
launch.py    starts the rank processes, relays their progress, stops them all when one fails
results.py   the ranks' figures -> report.json and the printed table
plots.py     the data map and the bytes per policy, as PNG
run.py       run_demo: all of it
"""
