from django import forms
from django.contrib.auth import get_user_model

COLORS = ["teal", "blue", "violet", "rose", "red", "amber"]  # chat.css has each for light and dark pages


class DirectForm(forms.Form):
    recipient = forms.ModelChoiceField(get_user_model().objects.order_by("username"), to_field_name="username")
    text = forms.CharField(max_length=1000)


class RoomForm(forms.Form):
    """What a page of a room sends: who is there, and what they say, if anything."""

    name = forms.CharField(max_length=30)
    color = forms.ChoiceField(choices=[(color, color) for color in COLORS])
    text = forms.CharField(max_length=300, required=False)
