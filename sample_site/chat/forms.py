from django import forms
from django.contrib.auth import get_user_model


class DirectForm(forms.Form):
    recipient = forms.ModelChoiceField(get_user_model().objects.order_by("username"), to_field_name="username")
    text = forms.CharField(max_length=1000)
