"""Classes of a model and categories of a data set: matched by name, by id, or refused."""

import pytest

from ssdrt.errors import LabelError
from ssdrt.evaluate.classes import match_classes
from ssdrt.evaluate.data_set import Annotation, DataSet
from ssdrt.model import LabelMap

CLASS_IDS = range(1, 4)


def data_of(categories, annotated=None, numbered=True):
    annotations = [Annotation(1, one, (0, 0, 5, 5), 25, False, "") for one in annotated or categories]
    return DataSet((), categories, tuple(annotations), numbered)


def test_by_name_whatever_the_ids():
    labels = LabelMap({1: "Person", 2: "traffic light", 3: "dog"})
    classes = match_classes(labels, CLASS_IDS, data_of({7: "dog", 8: "person", 9: "traffic_light"}))
    assert (classes.category, classes.missing, classes.how) == ({1: 8, 2: 9, 3: 7}, (), "name")


def test_by_id_when_the_model_has_no_names():
    classes = match_classes(LabelMap({}), CLASS_IDS, data_of({1: "a", 3: "b", 4: "c"}))
    assert (classes.category, classes.missing, classes.how) == ({1: 1, 3: 3}, ("c",), "id")


def test_names_beyond_the_models_classes_are_not_its_own():
    classes = match_classes(LabelMap({1: "cat", 4: "dog"}), CLASS_IDS, data_of({1: "cat", 2: "dog"}))
    assert (classes.category, classes.missing) == ({1: 1}, ("dog",))


def test_a_category_without_boxes_is_not_missed():
    classes = match_classes(LabelMap({1: "cat"}), CLASS_IDS, data_of({1: "cat", 2: "dog"}, annotated=[1]))
    assert classes.missing == ()


def test_of_two_categories_of_a_name_the_annotated_one_is_meant():
    classes = match_classes(LabelMap({1: "raccoon"}), CLASS_IDS, data_of({0: "Raccoon", 1: "raccoon"}, annotated=[1]))
    assert classes.category == {1: 1}


@pytest.mark.parametrize(
    ("labels", "data", "words"),
    [
        (
            {1: "cat"},
            data_of({1: "person"}),
            r"none of the annotated classes \(person\): its classes are cat; --labels",
        ),
        ({}, data_of({7: "person"}), r"none of the annotated classes \(person\): by id, for its classes have no names"),
        ({}, data_of({1: "person"}, numbered=False), "neither the model's classes have names nor the annotations ids"),
        ({1: "cat"}, data_of({1: "cat", 2: "Cat"}), "two annotated categories have the name 'cat'"),
    ],
)
def test_refused(labels, data, words):
    with pytest.raises(LabelError, match=words):
        match_classes(LabelMap(labels), CLASS_IDS, data)
