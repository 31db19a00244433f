"""Models of TensorFlow, made inside its environment: `python make_tensorflow.py FOLDER`."""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FOLDER = Path(sys.argv[1])
LAYERS = keras.layers


def network():
    image = keras.Input((None, None, 3), name="image")
    x = LAYERS.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = LAYERS.SeparableConv2D(16, 3, padding="same", activation="swish")(LAYERS.BatchNormalization()(x))
    x = LAYERS.Dense(10, activation="softmax", name="classes")(LAYERS.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


class Two(tf.Module):
    @tf.function(
        input_signature=[tf.TensorSpec([None, 4], tf.float32, "left"), tf.TensorSpec([None, 4], tf.int64, "right")]
    )
    def __call__(self, left, right):
        return {"total": left + tf.cast(right, tf.float32), "length": tf.norm(left, axis=1)}


class Unknown(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3], tf.float32, "matrix")])
    def __call__(self, matrix):
        return {"values": tf.linalg.svd(matrix)[0]}


@keras.saving.register_keras_serializable(package="private")
class Own(keras.layers.Layer):
    def call(self, x):
        return x * 2


def freeze(function, *specs):
    return convert_variables_to_constants_v2(tf.function(function).get_concrete_function(*specs)).graph.as_graph_def()


def write(graph, name):
    tf.io.write_graph(graph, str(FOLDER), name, as_text=False)


keras.utils.set_random_seed(0)
net = network()
net.export(str(FOLDER / "saved"), verbose=False)
net.save(FOLDER / "net.keras")
net.save(FOLDER / "net.h5")
write(freeze(lambda image: net(image), tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image")), "frozen.pb")
write(freeze(lambda x: tf.nn.relu(x) + 1.0, tf.TensorSpec(None, tf.float32, name="x")), "rankless.pb")
two = Two()
tf.saved_model.save(two, str(FOLDER / "two"), signatures={"serving_default": two.__call__})
unknown = Unknown()
tf.saved_model.save(unknown, str(FOLDER / "unknown"), signatures={"serving_default": unknown.__call__})
keras.Sequential([keras.Input((4,)), Own()]).save(FOLDER / "own.keras")
keras.Sequential([keras.Input((4,)), LAYERS.Lambda(lambda x: x + 1)]).save(FOLDER / "lambda.keras")
